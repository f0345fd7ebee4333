"""`python -m tasks.export WEIGHTS FOLDER IMAGE_SIZE REFUSAL`: write the graph, or the reason for none to REFUSAL.

It ends with the process that holds its standard input.
"""

import os
import sys
import threading
from pathlib import Path

from tasks.errors import StudioError


def main(weights: str, folder: str, image_size: str, refusal: str) -> None:
    """Export; a refusal is written, not raised."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    from tasks.export.exporter import write_graph  # torch and ONNX take seconds

    try:
        write_graph(Path(weights), Path(folder), int(image_size))
    except StudioError as error:
        Path(refusal).write_text(str(error), encoding="utf-8")


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock this thread would still hold when Python ends
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
