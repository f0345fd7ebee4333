"""`python -m tasks.export WEIGHTS FOLDER IMAGE_SIZE REFUSAL OWNER`: write the graph, or the reason for none to REFUSAL.

It ends with the process OWNER.
"""

import sys
from pathlib import Path

from tasks.errors import StudioError
from tasks.weights.process import exit_when_process_ends


def main(weights: str, folder: str, image_size: str, refusal: str, owner: str) -> None:
    """Export; a refusal is written, not raised."""
    exit_when_process_ends(int(owner))
    from tasks.export.exporter import write_graph  # torch and ONNX take seconds

    try:
        write_graph(Path(weights), Path(folder), int(image_size))
    except StudioError as error:
        Path(refusal).write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
