"""How the training process tells what happens."""

from pathlib import Path

from tasks.training.job import TrainerEvent, to_json_line


def append_event(events: Path, message: TrainerEvent) -> None:
    """Append one line, in one write, so that a reader never finds half of it for long."""
    with events.open("a", encoding="utf-8") as file:
        file.write(to_json_line(message) + "\n")
