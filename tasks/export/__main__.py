"""`python -m tasks.export WEIGHTS FOLDER IMAGE_SIZE REFUSAL`: write the graph, or to file REFUSAL why there is none.

It ends with whoever holds its standard input.
"""

import os
import sys
import threading
from pathlib import Path

from tasks.export.errors import ExportError


def main(weights: str, folder: str, image_size: str, refusal: str) -> None:
    """Export; what these weights cannot become is told, never raised."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    # Torch and ONNX take seconds to import.
    from tasks.export.exporter import write_graph

    try:
        write_graph(Path(weights), Path(folder), int(image_size))
    except ExportError as error:
        Path(refusal).write_text(str(error), encoding="utf-8")


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock this thread would still hold when Python ends
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
