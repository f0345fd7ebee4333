"""Pipelines: flows with saved parameters, a schedule or a trigger, as deployments/pipelines.yaml lists them.

`python -m infra.pipelines --check` checks the file; `make up` makes it so on Prefect's server.
"""

import argparse
import asyncio
import contextlib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jinja2 import TemplateError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.server.schemas import schedules
from prefect.server.utilities.user_templates import validate_user_template
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from infra.command_errors import StackError
from infra.stack_settings import ROOT
from tasks.errors import safe_repr
from tasks.orchestration.events import EVENTS

FILE = ROOT / "deployments" / "pipelines.yaml"
BASE = "gpu"  # the deployment of a flow, whose code, queue and form its pipelines share
TAG = "pipelines.yaml"  # by which those are found that the file no longer lists
_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_RENDERED = ("x.zip", "x")  # an archive and a model: one stands for the value of a template while it is checked
_CRON_FIELDS = 5  # those of seconds and years run, but not when one reads that they do
_DEPLOYMENTS_PER_REQUEST = 200


class PipelinesError(StackError):
    """The file of pipelines has faults; the message has a line for each."""

    def __init__(self, path: Path, faults: Iterable[str]) -> None:
        """Say in which file they are."""
        super().__init__("\n".join(f"{path.name}: {fault}" for fault in faults))


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Entry):
    """When a pipeline starts by itself. Without `active` it is off until somebody turns it on, and stays as it is."""

    cron: str
    timezone: str = "UTC"
    active: bool | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)

    def to_cron(self) -> CronSchedule:
        """Return it as Prefect takes it.

        Raises:
            ValueError: Cron or time zone are none.
        """
        return CronSchedule(cron=self.cron, timezone=self.timezone)


class Trigger(DeploymentEventTrigger, extra="forbid"):
    """The event that starts a pipeline, as in Prefect's deployments.

    Without `enabled` it is off until somebody turns it on, and stays as it is.
    """


class Pipeline(_Entry):
    """An entry of the file: a flow under a name of its own."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    flow: str
    description: str = ""
    tags: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: list[Schedule] = Field(default_factory=list)
    triggers: list[Trigger] = Field(default_factory=list)

    @property
    def title(self) -> str:
        """Its name in Prefect."""
        return f"{self.flow}/{self.name}"


class _File(_Entry):
    deployments: list[Pipeline] = Field(default_factory=list)


def read_pipelines(path: Path = FILE) -> list[Pipeline]:
    """Return the pipelines of a file.

    Raises:
        PipelinesError: The file has faults: all of them.
    """
    try:
        content = yaml.safe_load(path.read_text()) or {}
        json.dumps(content, default=str, skipkeys=True)  # an alias may stand for what it is in
        pipelines = _File.model_validate(content).deployments
    except ValidationError as error:
        sound = list(_sound_parts(error, content))
        raise PipelinesError(path, [*_describe(error, content), *_find_faults(sound)]) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise PipelinesError(path, [f"expected a YAML file with a list `deployments`, found {error}"]) from error
    if faults := list(_find_faults(pipelines)):
        raise PipelinesError(path, faults)
    return pipelines


def _describe(error: ValidationError, content: object) -> Iterator[str]:
    """The faults of a validation, with the name of the pipeline in place of its number."""
    entries = content.get("deployments") if isinstance(content, dict) else None
    for fault in error.errors(include_url=False):
        place = list(fault["loc"])
        if isinstance(entries, list) and len(place) > 1 and isinstance(place[1], int):
            entry = entries[place[1]]
            name = entry.get("name") if isinstance(entry, dict) else None
            place[:2] = [f"pipeline {safe_repr(name)}"] if name else [f"entry {place[1] + 1}"]
        found = "" if fault["type"] == "missing" else f", found {safe_repr(fault['input'])}"
        yield f"{'.'.join(map(str, place)) or 'the file'}: {fault['msg']}{found}"


def _sound_parts(error: ValidationError, content: object) -> Iterator[Pipeline]:
    """The pipelines without the fields that have faults: what is left may have others, and all are said at once."""
    faulty: dict[object, set[object]] = {}
    for fault in error.errors():
        _, number, field, *_ = (*fault["loc"], None, None, None)
        faulty.setdefault(number, set()).add(field)
    entries = content.get("deployments") if isinstance(content, dict) else None
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        with contextlib.suppress(ValidationError, AttributeError):  # of its name or its flow: nothing can be said
            yield Pipeline.model_validate({k: v for k, v in entry.items() if k not in faulty.get(number, ())})


def _find_faults(pipelines: Sequence[Pipeline]) -> Iterator[str]:
    flows = flow_names()
    titles = [each.title for each in pipelines]
    for pipeline in pipelines:
        where = f"pipeline {pipeline.name!r}"
        if titles.count(pipeline.title) > 1:
            yield f"{where}: expected a name once for each flow, found it {titles.count(pipeline.title)} times"
        if pipeline.name == BASE:
            yield f"{where}: expected another name, found that of the deployment of the flow itself"
        if pipeline.flow not in flows:
            yield f"{where}.flow: expected one of {', '.join(flows)}, found {safe_repr(pipeline.flow)}"
            continue
        yield from (f"{where}.{fault}" for fault in _find_parameter_faults(pipeline))
        yield from (f"{where}.{fault}" for fault in _find_schedule_faults(pipeline))
        yield from (f"{where}.{fault}" for fault in _find_trigger_faults(pipeline))


def flow_names() -> list[str]:
    """Return the names of all flows (`train-model`)."""
    return sorted(path.stem.replace("_", "-") for path in (ROOT / "flows").glob("[a-z]*.py"))


def _find_parameter_faults(pipeline: Pipeline) -> Iterator[str]:
    """Those of each way to start it: a person, who is asked for what is missing, the schedules and the triggers."""
    starts = {
        "parameters": pipeline.parameters,
        **{f"schedules[{n}].parameters": each.parameters for n, each in enumerate(pipeline.schedules)},
        **{f"triggers[{n}].parameters": each.parameters or {} for n, each in enumerate(pipeline.triggers)},
    }
    for place, own in starts.items():
        templates = place.startswith("triggers")
        if not templates and _TEMPLATE.search(str(own)):
            yield (
                f"{place}: expected no {{{{ template }}}}, which only a trigger fills in. Move it to parameters of "
                "that trigger: triggers[0].parameters"
            )
        for text in _list_texts(own) if templates else ():
            try:
                validate_user_template(text)
            except (TemplateError, ValueError) as error:
                yield f"{place}: expected a template that Prefect can fill in, found {safe_repr(text)}: {error}"
        whole = pipeline.parameters | own
        for fault in min((_validate(pipeline.flow, _render(whole, each)) for each in _RENDERED), key=len):
            absent = fault["type"] == "missing" and len(fault["loc"]) == 1
            if fault["loc"][0] in own or (absent and place != "parameters"):
                found = "" if absent else f", found {safe_repr(fault['input'])}"
                yield f"{place}.{'.'.join(map(str, fault['loc']))}: {fault['msg']}{found}"


def _validate(flow: str, values: Mapping[str, Any]) -> list[Any]:
    """The faults of the parameters of a flow, by its own models."""
    module = flow.replace("-", "_")
    story = getattr(import_module(f"flows.{module}"), module).fn
    hints = get_type_hints(story, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(story).parameters.items()
    }
    model = create_model("FlowParameters", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _render(value: Any, filled: str) -> Any:  # noqa: ANN401 - JSON
    """The value with a text in place of each template, as the server will put the facts of an event there."""
    if isinstance(value, dict):
        return {name: _render(each, filled) for name, each in value.items()}
    if isinstance(value, list):
        return [_render(each, filled) for each in value]
    return _TEMPLATE.sub(filled, value) if isinstance(value, str) else value


def _list_texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _list_texts(each)
    elif isinstance(value, str):
        yield value


def _find_schedule_faults(pipeline: Pipeline) -> Iterator[str]:
    for number, schedule in enumerate(pipeline.schedules):
        try:
            schedule.to_cron()
            fields = len(schedule.cron.split())
            if fields != _CRON_FIELDS and not schedule.cron.startswith("@"):
                expected = "expected minute, hour, day, month and weekday"
                yield f"schedules[{number}].cron: {expected}, found {fields} fields in {safe_repr(schedule.cron)}"
            asyncio.run(schedules.CronSchedule(cron=schedule.cron).get_dates(1))
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                yield f"schedules[{number}].{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        except ValueError:
            yield f"schedules[{number}].cron: expected a time that comes, found {safe_repr(schedule.cron)}"


def _find_trigger_faults(pipeline: Pipeline) -> Iterator[str]:
    for number, trigger in enumerate(pipeline.triggers):
        if not trigger.expect:
            yield f"triggers[{number}].expect: expected the name of an event, found none, which any event would start"
        for event in sorted(trigger.expect):
            if event not in EVENTS and not event.startswith("prefect."):
                known = ", ".join(EVENTS)
                yield f"triggers[{number}].expect: expected one of {known}, or an event of Prefect, found {event!r}"


def register_pipelines(pipelines: Sequence[Pipeline]) -> None:
    """Make or update the deployment of each pipeline, and remove those that are listed no longer.

    What a person has turned on or off stays so, unless the file says it.
    """
    with get_client(sync_client=True) as client:
        for pipeline in pipelines:
            base = client.read_deployment_by_name(f"{pipeline.flow}/{BASE}")
            _register(client, pipeline, base)
        listed = {each.title for each in pipelines}
        for deployment in _read_registered(client):
            if f"{client.read_flow(deployment.flow_id).name}/{deployment.name}" not in listed:
                client.delete_resource_owned_automations(f"prefect.deployment.{deployment.id}")
                client.delete_deployment(deployment.id)


def _read_registered(client: SyncPrefectClient) -> list[DeploymentResponse]:
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found: list[DeploymentResponse] = []
    while (
        len(page := client.read_deployments(deployment_filter=ours, limit=_DEPLOYMENTS_PER_REQUEST, offset=len(found)))
        == _DEPLOYMENTS_PER_REQUEST
    ):
        found += page
    return [*found, *page]


def _register(client: SyncPrefectClient, pipeline: Pipeline, base: DeploymentResponse) -> None:
    try:
        present = client.read_deployment_by_name(pipeline.title)
    except ObjectNotFound:
        present = None
    deployment = client.create_deployment(
        flow_id=base.flow_id,
        name=pipeline.name,
        description=pipeline.description or base.description,
        tags=[*base.tags, *pipeline.tags, TAG],
        parameters=pipeline.parameters,
        schedules=_merge_schedules(pipeline, present),
        work_pool_name=base.work_pool_name,
        work_queue_name=base.work_queue_name,
        entrypoint=base.entrypoint,
        path=base.path,
        pull_steps=base.pull_steps,
        job_variables=base.job_variables,
        parameter_openapi_schema=base.parameter_openapi_schema,
        enforce_parameter_schema=base.enforce_parameter_schema,
    )
    prefix = f"{pipeline.title} trigger "
    owned = {
        each.name: each
        for each in client.read_resource_related_automations(f"prefect.deployment.{deployment}")
        if each.name.startswith(prefix)
    }
    for number, trigger in enumerate(pipeline.triggers, 1):
        name = f"{prefix}{number}"
        former = owned.pop(name, None)
        as_left = former.enabled if former else False
        enabled = trigger.enabled if "enabled" in trigger.model_fields_set else as_left
        described = trigger.model_copy(update={"name": name, "enabled": enabled})
        described.set_deployment_id(deployment)
        automation = described.as_automation()
        if former is None:
            client.create_automation(automation)
        else:
            unowned = automation.model_dump(exclude={"owner_resource"})  # the server lets nobody change the owner
            client.update_automation(former.id, AutomationCore.model_validate(unowned))
    for former in owned.values():
        client.delete_automation(former.id)


def _merge_schedules(pipeline: Pipeline, present: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    active = {each.slug: each.active for each in present.schedules} if present else {}
    return [
        DeploymentScheduleCreate(
            schedule=schedule.to_cron(),
            active=schedule.active if schedule.active is not None else active.get(f"schedule-{number}", False),
            parameters=schedule.parameters,
            slug=f"schedule-{number}",
        )
        for number, schedule in enumerate(pipeline.schedules, 1)
    ]


def main() -> int:
    """Check the file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.pipelines", description=__doc__)
    parser.add_argument("--check", action="store_true", required=True, help="say every fault of the file")
    parser.parse_args()
    try:
        read_pipelines()
    except PipelinesError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
