"""All that flows of this checkout import: what the processes of their runs are forked from has it once.

A flow that cannot be imported is left out; its own run meets the error, and has it in its log.
"""

import contextlib
import importlib
import os
import pkgutil
import sys

import flows
from infra.engine import lasting_imports

os.setpgid(0, 0)  # or what tells the worker's group to end would end this one, and runs go on for a while
sys.modules["polars"] = None  # type: ignore[assignment]  # MLflow asks for it, and it has threads that no fork has
with lasting_imports():
    for _flow in pkgutil.iter_modules(flows.__path__):
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(f"flows.{_flow.name}")
del sys.modules["polars"]
