"""`python -m tests.flows.dying FLOW MODEL VERSION WHEN NAME COUNT`: run a flow that is killed at one place.

VERSION 0 names none. WHEN is `before` or `after` call number COUNT of NAME, a full dotted one. The id of the flow run
is printed.
"""

import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from prefect import runtime

from flows.deploy_model import deploy_model
from flows.rollback_model import rollback_model
from flows.undeploy_model import undeploy_model
from tasks.core.parameters import ServingParams
from tests.flows.steps import QUICK, UNCOMPARED


def die() -> None:
    """End as the kernel ends a process: nothing is tidied up."""
    print(runtime.flow_run.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(function: Callable[..., Any], when: str, count: int) -> Callable[..., Any]:
    calls = 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if (calls, when) == (count, "before"):
            die()
        result = function(*args, **kwargs)
        if (calls, when) == (count, "after"):
            die()
        return result

    return called


def main(flow: str, model: str, version: str, when: str, place: str, count: str) -> None:
    owner, _, name = place.rpartition(".")
    held = pkgutil.resolve_name(owner)
    setattr(held, name, deadly(getattr(held, name), when, int(count)))
    if flow == "deploy":
        deploy_model(model, int(version) or None, ServingParams.model_validate(QUICK | UNCOMPARED))
    elif flow == "rollback":
        rollback_model(model, int(version) or None)
    else:
        undeploy_model(model)


if __name__ == "__main__":
    main(*sys.argv[1:])
