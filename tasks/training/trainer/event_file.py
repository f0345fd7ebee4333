"""How the training process tells what happens."""

from pathlib import Path

from tasks.training.job import Told, to_line


def tell(events: Path, message: Told) -> None:
    """Append one line, in one write, so that a reader never finds half of it for long."""
    with events.open("a", encoding="utf-8") as file:
        file.write(to_line(message) + "\n")
