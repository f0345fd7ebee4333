"""The same run as a command: a line of `studio`, and one of curl."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

# Of each flow the command, and the parameters that are its arguments; others are options.
COMMANDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "validate-dataset": ("validate", ("archive",)),
    "import-dataset": ("import", ("source", "archive")),
    "train-model": ("train", ("model_name", "archives")),
    "register-model": ("register", ("model_name", "weights")),
    "evaluate-model": ("evaluate", ("model_name", "archive")),
    "find-label-errors": ("label-errors", ("model_name", "archive")),
    "select-images": ("select", ("model_name", "inputs")),
    "deploy-model": ("deploy", ("model_name",)),
    "rollback-model": ("rollback", ("model_name",)),
    "undeploy-model": ("undeploy", ("model_name",)),
    "run-inference": ("infer", ("model_name", "inputs")),
    "label-images": ("label", ("model_name", "inputs", "archive")),
    "review-images": ("review", ("model_name", "inputs", "archive")),
    "monitor-model": ("monitor", ("model_name",)),
    "run-pipeline": ("pipeline", ("model_name", "archives")),
    "close-loop": ("loop", ("model_name", "inputs")),
    "delete-dataset": ("delete-dataset", ("archive",)),
    "delete-version": ("delete-version", ("model_name", "version")),
    "delete-predictions": ("delete-predictions", ("run",)),
    "clean-up": ("clean-up", ()),
}


def studio_line(flow: str, parameters: Mapping[str, Any]) -> str:
    """Return the line of `studio` that starts this run."""
    command, arguments = COMMANDS[flow]
    words = ["studio", command]
    for name, value in parameters.items():
        if name not in arguments:
            words += _option(name, value)
    given = [parameters[name] for name in arguments if name in parameters]
    texts = [str(text) for value in given for text in (value if isinstance(value, list) else [value])]
    if any(text.startswith("-") for text in texts):
        words.append("--")
    return shlex.join([*words, *texts])


def curl_line(deployment: UUID, parameters: Mapping[str, Any]) -> str:
    """Return the line of curl that starts this run, with the names of `.studio/env`."""
    body = shlex.quote(json.dumps({"parameters": parameters}, ensure_ascii=False))
    address = f'"$PREFECT_API_URL/deployments/{deployment}/create_flow_run"'
    return f'curl --user "$PREFECT_API_AUTH_STRING" --header "Content-Type: application/json" --data {body} {address}'


def _option(name: str, value: Any) -> list[str]:  # noqa: ANN401 - JSON
    if name == "version":
        return ["--version", str(value)]
    if name == "force":
        return ["--force"] if value else []
    return [
        word
        for path, each in _leaves(name, value)
        for word in ("--set", f"{path}={json.dumps(each, ensure_ascii=False)}")
    ]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
    if isinstance(value, dict) and value and all(name.isidentifier() for name in value):
        for name, each in value.items():
            yield from _leaves(f"{path}.{name}", each)
    else:
        yield path, value
