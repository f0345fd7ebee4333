"""`python -m tasks.export WEIGHTS FOLDER IMAGE_SIZE REFUSAL OWNER`: write the graph, or the reason for none to REFUSAL.

It ends with the process OWNER.
"""

import resource
import sys
from pathlib import Path

import psutil

from tasks.errors import StudioError
from tasks.weights.process import exit_when_process_ends

# Of data, not of addresses, as CUDA reserves more of these than there is memory. A small detector at 4096 pixels takes
# 15 GiB.
MAX_MEMORY_BYTES = psutil.virtual_memory().total * 3 // 4
MAX_FILE_BYTES = 8 * 2**30


def main(weights: str, folder: str, image_size: str, refusal: str, owner: str) -> None:
    """Export; a refusal is written, not raised."""
    exit_when_process_ends(int(owner))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    from tasks.export.exporter import write_graph  # torch and ONNX take seconds

    try:
        write_graph(Path(weights), Path(folder), int(image_size))
    except StudioError as error:
        Path(refusal).write_text(str(error), encoding="utf-8")
    except MemoryError:
        most = f"{MAX_MEMORY_BYTES / 2**30:.0f} GiB of memory"
        Path(refusal).write_text(f"Expected a model whose export takes at most {most}, found a larger one.")


if __name__ == "__main__":
    main(*sys.argv[1:])
