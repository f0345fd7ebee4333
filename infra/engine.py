"""The process in which a flow of this checkout runs, as our worker starts it: a fork, or `python -m infra.engine`."""

import contextlib
import gc
import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from infra.stack_settings import ROOT
from tasks.log_lines import JsonFormatter
from tasks.weights.scheduling import stand_back

_imported_with: dict[str, str] = {}


def main() -> None:
    """Import Prefect and the flow, and run it as `python -m prefect.flow_engine` does."""
    stand_back(os.getsid(0), os.nice(0))
    flow = os.environ["PREFECT__FLOW_ENTRYPOINT"]  # flows.train_model.train_model
    with lasting_imports():
        from prefect import flow_engine  # noqa: F401

        with contextlib.suppress(Exception):  # the engine meets it again, and puts it into the log of the run
            importlib.import_module(flow.rpartition(".")[0])
    _run(flow)


@contextlib.contextmanager
def lasting_imports() -> Iterator[None]:
    """Keep the garbage collector from what the block imports: it would look through all of it again and again.

    It would find nothing, as that stays as long as the process: 0.6 of 4 s of processor time.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def remember_settings() -> None:
    """Remember with which settings Prefect was imported here, for the processes that are forked from this one."""
    from prefect.logging.configuration import setup_logging
    from prefect.settings import get_current_settings

    setup_logging(incremental=False)
    _imported_with.update(
        _of_prefect(os.environ), **get_current_settings().to_environment_variables(exclude_unset=True)
    )


def _of_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings in an environment, without what says which run it is of."""
    return {name: value for name, value in environment.items() if re.match("PREFECT_(?!_)", name)}


def run_forked(flow: str, environment: Mapping[str, str]) -> NoReturn:
    """Run a flow in this fork, with that environment, as a session and a group of its own."""
    import atexit

    from setproctitle import setproctitle

    os.setsid()
    stand_back(os.getsid(0), os.nice(0))
    os.environ["SPT_NOENV"] = "1"  # or the title overwrites where `make down` sees whose process it is
    setproctitle(f"infra.engine {flow} {environment['PREFECT__FLOW_RUN_ID']}")  # finds its place by the old environment
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    _prepare_logging(environment)
    try:
        _run(flow)
    finally:
        atexit._run_exitfuncs()  # noqa: SLF001 - Python does not call them at the end of such a fork


def _prepare_logging(environment: Mapping[str, str]) -> None:
    """Have Prefect know the settings of this environment, and its lines say what they are of.

    To read settings that it has already took a third of the processor time of a check of an archive.
    """
    if _of_prefect(environment) == _imported_with:
        for handler in logging.getLogger().handlers:
            if isinstance(handler.formatter, JsonFormatter):  # it knows the environment in which it was made
                handler.setFormatter(JsonFormatter())
        return
    from prefect import context
    from prefect.logging.configuration import setup_logging

    context.refresh_global_settings_context()
    logging.getLogger().handlers.clear()  # or Prefect leaves alone what was not made for this environment
    setup_logging(incremental=False)


def _run(flow: str) -> NoReturn:
    from prefect import flow_engine as prefects

    from infra.suspension import observe_aside

    flow_engine: Any = prefects
    flow_engine.observe_flow_run_suspension = observe_aside
    sys.exit(flow_engine._main([flow]))  # noqa: SLF001 - what `python -m prefect.flow_engine` calls


if __name__ == "__main__":
    main()
