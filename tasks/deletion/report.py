"""A deletion as a page of Markdown."""

from tasks.catalogue.tombstones import Tombstone
from tasks.rendering.markdown import bullet_list, wrap_text


def deletion_markdown(tombstone: Tombstone) -> str:
    """Return what was deleted, what is still there, and how to get it back."""
    facts = {"digest": tombstone.digest, "deleted": tombstone.deleted.isoformat(timespec="seconds")} | tombstone.kept
    lines = [f"{name}: {wrap_text(value)}" for name, value in facts.items() if value]
    return f"**{tombstone.kind} {wrap_text(tombstone.name)} is deleted.**\n\n{bullet_list(lines)}"


def deletion_sentence(tombstone: Tombstone) -> str:
    """Return the message with which the run ends."""
    restore = tombstone.kept.get("restore")
    if restore:
        return f"{tombstone.name} is deleted. The bucket keeps it: {restore}"
    if "tracked_run" in tombstone.kept:
        return f"{tombstone.name} is deleted; its run in MLflow stays."
    return f"{tombstone.name} is deleted, and no copy of it is kept."
