"""The work pool on a Kubernetes cluster: what each run's job is made from, and what the runs of a queue ask for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from infra.command_errors import StackError
from infra.stack_settings import ROOT, StackSettings

TEMPLATE = ROOT / "deployments" / "kubernetes-job-template.json"
QUEUES = ROOT / "deployments" / "kubernetes-queues.yaml"
DEPLOYMENTS = ROOT / "prefect.yaml"


def job_template(settings: StackSettings) -> dict[str, Any]:
    """Return the base job template of the pool, with the image and the namespace of the settings.

    Raises:
        StackError: The settings name no image.
    """
    if not settings.worker_image:
        raise StackError("expected the image of the runs in STUDIO_WORKER_IMAGE, found none")
    text = TEMPLATE.read_text()
    for name, value in (("STUDIO_WORKER_IMAGE", settings.worker_image), ("STUDIO_NAMESPACE", settings.namespace)):
        text = text.replace(json.dumps(name), json.dumps(value))
    template: dict[str, Any] = json.loads(text)
    return template


def deployments() -> dict[str, Any]:
    """Return prefect.yaml with the job variables of its queue in each deployment."""
    content: dict[str, Any] = yaml.safe_load(DEPLOYMENTS.read_text())
    wanted = yaml.safe_load(QUEUES.read_text())
    for deployment in content["deployments"]:
        pool = deployment["work_pool"]
        pool["job_variables"] = wanted.get(pool["work_queue_name"], {}) | pool.get("job_variables", {})
    return content


@contextmanager
def deployments_file(settings: StackSettings) -> Iterator[str]:
    """Yield the path of a file with these deployments, which is removed afterwards."""
    path = settings.state_dir / "prefect-kubernetes.yaml"
    path.write_text(yaml.safe_dump(deployments(), sort_keys=False))
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
