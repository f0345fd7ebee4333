"""The process in which a flow of this checkout runs: `python -m infra.engine`, as our worker starts it.

What a flow imports stays as long as its process. The garbage collector would look through all of it again and again
while it comes, and find nothing: 0.6 of 4 s of processor time.
"""

import contextlib
import gc
import importlib
import os
import sys

from tasks.weights.process import stand_back


def main() -> None:
    """Import Prefect and the flow, and run it as `python -m prefect.flow_engine` does."""
    stand_back(os.getsid(0), os.nice(0))
    gc.disable()
    from prefect import flow_engine

    flow = os.environ["PREFECT__FLOW_ENTRYPOINT"]  # flows.train_model.train_model
    with contextlib.suppress(Exception):  # the engine meets it again, and puts it into the log of the run
        importlib.import_module(flow.rpartition(".")[0])
    gc.freeze()
    gc.enable()
    sys.exit(flow_engine._main([flow]))  # noqa: SLF001 - what `python -m prefect.flow_engine` calls


if __name__ == "__main__":
    main()
