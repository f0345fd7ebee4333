"""`python -m tasks.export`: write a graph, or the reason for none to the file REFUSAL; it ends with the process OWNER.

`graph WEIGHTS FOLDER IMAGE_SIZE REFUSAL OWNER` exports weights, `int8 GRAPH IMAGES TARGETS REFUSAL OWNER` quantises a
graph; TARGETS is a JSON object of files by precision.
"""

import json
import logging
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


def main(kind: str, source: str, second: str, third: str, refusal: str, owner: str) -> None:
    """Export or quantise; a refusal is written, not raised."""
    exit_when_process_ends(int(owner))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    try:
        if kind == "graph":
            from tasks.export.exporter import write_graph  # torch and ONNX take seconds

            write_graph(Path(source), Path(second), int(third))
        else:
            from tasks.export.quantizer import write_int8_graphs

            logging.disable(logging.WARNING)  # of the quantiser, about a step that our export has done
            write_int8_graphs(
                Path(source), Path(second), {name: Path(path) for name, path in json.loads(third).items()}
            )
    except StudioError as error:
        Path(refusal).write_text(str(error), encoding="utf-8")
    except MemoryError:
        most = f"{MAX_MEMORY_BYTES / 2**30:.0f} GiB of memory"
        Path(refusal).write_text(f"Expected a model whose export takes at most {most}, found a larger one.")


if __name__ == "__main__":
    main(*sys.argv[1:])
