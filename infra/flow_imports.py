"""All that flows of this checkout import: what the processes of their runs are forked from has it once.

A flow that cannot be imported is left out; its own run meets the error, and has it in its log.
"""

import contextlib
import importlib
import os
import pkgutil
import sys

import flows
from infra import engine
from infra.stack_settings import ROOT

# Which flows and libraries import when they need them: 1 s of processor time of a check of an archive.
_LATE = (
    *("prefect.flow_engine", "prefect.task_engine", "prefect.utilities.visualization", "prefect._internal.observers"),
    *("anyio._backends._asyncio", "boto3.s3.inject", "mlflow.tracking.request_header.registry", "pandera.pandas"),
)

os.chdir(ROOT)  # where Prefect looks for settings, too
os.setpgid(0, 0)  # or what tells the worker's group to end would end this one, and runs go on for a while
sys.modules["polars"] = None  # type: ignore[assignment]  # MLflow asks for it, and it has threads that no fork has
with engine.lasting_imports():
    for _name in (*_LATE, *(f"flows.{_flow.name}" for _flow in pkgutil.iter_modules(flows.__path__))):
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(_name)
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module("tasks.storage.s3_client").load_descriptions()
    engine.remember_settings()
del sys.modules["polars"]
