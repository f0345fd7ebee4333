"""`python -m tasks.importing SOURCE TARGET REQUEST ANSWER OWNER`: import an archive within the limits of this process.

REQUEST holds the parameters and the provenance as JSON; ANSWER gets the summary, or a refusal. It ends with the process
OWNER.
"""

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

import psutil

from tasks.errors import StudioError
from tasks.importing.importer import import_archive
from tasks.parameters import ImportParams
from tasks.weights.process import exit_when_process_ends

# Two imports run at one time (deployments/queues.yaml), beside all else that the machine does.
MAX_MEMORY_BYTES = min(12 * 2**30, psutil.virtual_memory().total // 3)
MAX_CPU_SECONDS = 6 * 3600


def main(source: str, target: str, request: str, answer: str, owner: str) -> None:
    """Import; a refusal is written, not raised."""
    exit_when_process_ends(int(owner))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    asked = json.loads(Path(request).read_text(encoding="utf-8"))
    written: dict[str, object]
    try:
        params = ImportParams.model_validate(asked["importing"])
        written = {"summary": asdict(import_archive(Path(source), Path(target), params, asked["provenance"]))}
    except StudioError as error:
        written = {"refusal": str(error)}
    except MemoryError:
        gigabytes = MAX_MEMORY_BYTES // 2**30
        written = {
            "refusal": f"Expected annotations that {gigabytes} GiB of memory hold, found more. Split the archive, and "
            "import the parts."
        }
    Path(answer).write_text(json.dumps(written), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
