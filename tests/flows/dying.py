"""`python -m tests.flows.dying FLOW MODEL VERSION HOW PLACE`: run a flow that is stopped at one place.

VERSION 0 names none. HOW is `killed`, or `held` until standard input has a line. PLACE is one string,
`WHEN NAME COUNT`: `before` call number COUNT of NAME, a full dotted one, or `after` the one of that number
that returns. The id of the flow run is printed there.
"""

import functools
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from prefect import runtime

from flows.deploy_model import deploy_model
from flows.rollback_model import rollback_model
from flows.run_pipeline import run_pipeline
from flows.undeploy_model import undeploy_model
from tasks.parameters import ServingParams
from tests.flows.pipelines import QUICK_PIPELINE
from tests.flows.steps import COMPARED, QUICK, UNCOMPARED


def stop(how: str) -> None:
    """End as the kernel ends a process, with nothing tidied up; or wait."""
    print(runtime.flow_run.id, flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()


def stopping(function: Callable[..., Any], how: str, when: str, count: int) -> Callable[..., Any]:
    calls = returned = 0

    @functools.wraps(function)  # with the attributes of a step
    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls, returned
        calls += 1
        if (calls, when) == (count, "before"):
            stop(how)
        result = function(*args, **kwargs)
        returned += 1
        if (returned, when) == (count, "after"):
            stop(how)
        return result

    return called


def main(flow: str, model: str, version: str, how: str, place: str) -> None:
    when, function, count = place.split()
    owner, _, name = function.rpartition(".")
    held = pkgutil.resolve_name(owner)
    setattr(held, name, stopping(getattr(held, name), how, when, int(count)))
    if flow == "compare":
        deploy_model(model, int(version) or None, ServingParams.model_validate(QUICK | COMPARED))
    elif flow == "int8":
        deploy_model(
            model, int(version) or None, ServingParams.model_validate(QUICK | UNCOMPARED | {"precision": flow})
        )
    elif flow == "deploy":
        deploy_model(model, int(version) or None, ServingParams.model_validate(QUICK | UNCOMPARED))
    elif flow == "pipeline":
        run_pipeline(model, **QUICK_PIPELINE)
    elif flow == "rollback":
        rollback_model(model, int(version) or None)
    else:
        undeploy_model(model)


if __name__ == "__main__":
    main(*sys.argv[1:])
