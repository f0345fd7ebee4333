"""The manifests and the job template of a cluster: rendered by kustomize and by Prefect, and held against the schemas.

There is no cluster: what only one shows, such as where a pod is placed, is not shown here.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Pending
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from infra import bootstrap, kubernetes_pool, registration
from infra.command_errors import StackError
from infra.container import PROGRAMS
from infra.initialization import OPTIONAL
from infra.stack_settings import ROOT, SECRETS, StackSettings
from tasks.settings import Settings
from tests.clients import prefect_api

FOLDER = ROOT / "infra" / "kubernetes"
WHOLE = ["base", "overlays/small", "overlays/gpu"]
RESTORE = "overlays/restore"
OVERLAYS = [*WHOLE, RESTORE]
VERSION = "1.35"
OF_OPERATORS = {"Cluster", "ScaledObject"}  # Kubernetes' own schemas do not know them
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
QUEUES = yaml.safe_load((ROOT / "deployments" / "queues.yaml").read_text())
SETTINGS = StackSettings(worker_image="registry.example.com/worker:1", namespace="vision")

# What an API server of a cluster with both operators says that it has, of what we use: it is what kubectl asks first.
RESOURCES = {
    "v1": {
        "Namespace": "namespaces",
        "ConfigMap": "configmaps",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
        "PersistentVolumeClaim": "persistentvolumeclaims",
    },
    "apps/v1": {"Deployment": "deployments", "StatefulSet": "statefulsets"},
    "batch/v1": {"CronJob": "cronjobs", "Job": "jobs"},
    "keda.sh/v1alpha1": {"ScaledObject": "scaledobjects"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "postgresql.cnpg.io/v1": {"Cluster": "clusters"},
    "rbac.authorization.k8s.io/v1": {"Role": "roles", "RoleBinding": "rolebindings"},
}

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl here")


@cache
def rendered(overlay: str) -> str:
    command = ["kubectl", "kustomize", str(FOLDER / overlay)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@cache
def manifests(overlay: str) -> list[dict[str, Any]]:
    return [each for each in yaml.load_all(rendered(overlay), yaml.CSafeLoader) if each]


def of_kind(overlay: str, *kinds: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in manifests(overlay) if each["kind"] in kinds}


@cache
def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """What each pod is made from, by the name of what makes it."""
    made = of_kind(overlay, "Deployment", "StatefulSet", "Job")
    each_night = of_kind(overlay, "CronJob")
    return {
        **{name: each["spec"]["template"] for name, each in made.items()},
        **{name: each["spec"]["jobTemplate"]["spec"]["template"] for name, each in each_night.items()},
        "flow-run": job()["spec"]["template"],
    }


def job(**variables: Any) -> dict[str, Any]:
    """The job of a run with these job variables, as Prefect's worker makes it."""
    Draft202012Validator(kubernetes_pool.job_template(SETTINGS)["variables"]).validate(variables)
    return job_unchecked(variables)


def job_unchecked(variables: dict[str, Any]) -> dict[str, Any]:
    template = kubernetes_pool.job_template(SETTINGS)
    # A client would be asked for blocks and variables that the template names: it names none.
    never_asked = cast("PrefectClient", object())
    made = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(template, variables, client=never_asked)
    )
    made.prepare_for_flow_run(FlowRun(id=uuid4(), name="brave-lion", flow_id=uuid4(), state=Pending()))
    manifest: dict[str, Any] = made.job_manifest
    return manifest


def without_prefects_own(manifest: dict[str, Any]) -> dict[str, Any]:
    """Prefect wants these two fields of a job in its pod, where Kubernetes drops them."""
    pod = manifest["spec"]["template"]["spec"]
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    return manifest


@pytest.mark.slow
@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_manifest_is_one_that_kubernetes_takes(overlay: str) -> None:
    found = manifests(overlay)
    assert len(found) > 30
    for each in found:
        if each["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(each, VERSION, strict=True)


def discovery() -> dict[str, dict[str, Any]]:
    """What such a server answers, by path."""
    versions = [{"groupVersion": each, "version": each.partition("/")[2]} for each in RESOURCES if "/" in each]
    groups = [
        {"name": each["groupVersion"].partition("/")[0], "versions": [each], "preferredVersion": each}
        for each in versions
    ]
    return {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        **{
            f"/{'apis' if '/' in version else 'api'}/{version}": {
                "kind": "APIResourceList",
                "groupVersion": version,
                "resources": [
                    {"name": name, "kind": kind, "namespaced": kind != "Namespace", "verbs": ["create", "get", "patch"]}
                    for kind, name in kinds.items()
                ],
            }
            for version, kinds in RESOURCES.items()
        },
    }


@pytest.fixture
def empty_cluster() -> Iterator[str]:
    """The address of a stand-in for the API server of a cluster in which nothing is: there is no cluster here."""
    known = discovery()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = known.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer or missing).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS[1:])
def test_kubectl_would_make_each_manifest(overlay: str, empty_cluster: str, tmp_path: Path) -> None:
    """Of the kind and the version that it has, in our namespace; its fields are those of the test above."""
    command = ["kubectl", f"--server={empty_cluster}", "apply", "--dry-run=client", "--validate=false", "--output=json"]
    done = subprocess.run(
        [*command, "--kustomize", str(FOLDER / overlay)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["items"]
    assert {name_of(each) for each in made} == {name_of(each) for each in manifests(overlay)}
    assert len(made) == len(manifests(overlay))
    assert {each["metadata"]["namespace"] for each in made if each["kind"] != "Namespace"} == {"yolo-studio"}


def name_of(manifest: dict[str, Any]) -> str:
    return f"{manifest['apiVersion']} {manifest['kind']} {manifest['metadata']['name']}"


@pytest.mark.parametrize("queue", QUEUES)
def test_the_job_of_each_queue_is_one_that_kubernetes_takes(queue: str) -> None:
    variables = yaml.safe_load(kubernetes_pool.QUEUES.read_text()).get(queue, {})
    manifest = job(**variables)
    assert "{{" not in json.dumps(manifest)
    kubernetes_validate.validate(without_prefects_own(manifest), VERSION, strict=True)


def test_a_training_has_a_gpu_to_itself_and_no_other_run_has_one() -> None:
    by_queue = {
        each["work_pool"]["work_queue_name"]: job(**each["work_pool"]["job_variables"])
        for each in kubernetes_pool.deployments()["deployments"]
    }
    assert by_queue.keys() == QUEUES.keys()
    asked = {}
    for queue, manifest in by_queue.items():
        resources = manifest["spec"]["template"]["spec"]["containers"][0]["resources"]
        asked[queue] = [resources[kind].get("nvidia.com/gpu", 0) for kind in ("requests", "limits")]
    assert asked == {queue: [int(queue == "training")] * 2 for queue in QUEUES}
    assert by_queue["training"]["spec"]["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert by_queue["checks"]["spec"]["template"]["spec"]["tolerations"] == []


def test_deployments_are_those_of_prefect_yaml_with_what_their_queue_asks_for() -> None:
    made = kubernetes_pool.deployments()["deployments"]
    for each in made:
        each["work_pool"].pop("job_variables")
    assert made == DEPLOYMENTS


def test_a_run_that_is_evicted_is_rescheduled_by_prefect_and_never_by_kubernetes() -> None:
    manifest = job()
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    assert manifest["spec"]["backoffLimit"] == 0
    assert {"name": "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "value": "reschedule"} in container["env"]
    assert manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 60


def test_the_job_has_image_and_namespace_of_the_settings() -> None:
    manifest = job()
    assert manifest["metadata"]["namespace"] == "vision"
    assert manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/worker:1"
    with pytest.raises(StackError, match="STUDIO_WORKER_IMAGE"):
        kubernetes_pool.job_template(StackSettings(worker_image=""))


@pytest.mark.parametrize(
    "variables",
    [
        {"image": "evil.example/x"},
        {"command": "sh"},
        {"env": {"STUDIO_SECRETS_DIR": "/x"}},
        {"service_account_name": "worker"},
        {"namespace": "kube-system"},
        {"gpus": 0},
        {"gpus": "1"},
        {"memory": "all"},
        {"nodes": "a b"},
        {"tolerations": [{"operator": "Exists"}]},
    ],
    ids=str,
)
def test_who_starts_a_run_chooses_neither_what_runs_nor_as_whom(variables: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        job(**variables)


def test_variables_that_slipped_in_have_no_effect() -> None:
    """Prefect does not look at those of a run that is made without its deployment's own address."""
    slipped = {
        "image": "evil.example/x",
        "command": "sh",
        "env": {"STUDIO_SECRETS_DIR": "/x"},
        "env.A": "b",
        "service_account_name": "worker",
        "namespace": "kube-system",
        "job_manifest": {},
        "cluster_config": {"config": {}},
    }

    def without_ids(manifest: dict[str, Any]) -> str:
        return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", json.dumps(manifest))

    assert without_ids(job_unchecked(slipped)) == without_ids(job())


@pytest.fixture
def pool(stack: StackSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:  # noqa: ARG001
    """A work pool of our own on the real server, of type kubernetes, which no worker looks at."""
    monkeypatch.setattr(registration, "POOL", f"cluster-{uuid4().hex[:8]}")
    bootstrap.ensure_work_pool("kubernetes", kubernetes_pool.job_template(SETTINGS))
    yield registration.POOL
    with get_client(sync_client=True) as client:
        client.delete_work_pool(registration.POOL)


def test_the_server_takes_the_pool_and_refuses_what_its_template_does_not_have(stack: StackSettings, pool: str) -> None:
    with prefect_api(stack) as api:
        flow = api.get("/deployments/name/train-model/gpu").raise_for_status().json()["flow_id"]
        wanted = yaml.safe_load(kubernetes_pool.QUEUES.read_text())["training"]
        new = {"name": pool, "flow_id": flow, "work_pool_name": pool, "job_variables": wanted}
        deployment = api.post("/deployments/", json=new).raise_for_status().json()["id"]
        answers = [
            api.post(f"/deployments/{deployment}/create_flow_run", json={"job_variables": variables})
            for variables in ({"gpus": 2}, {"image": "evil.example/x"}, {"gpus": 0}, {"tolerations": [{"key": "x"}]})
        ]
        api.delete(f"/deployments/{deployment}").raise_for_status()
    assert [answer.status_code for answer in answers] == [201, 422, 422, 422], [answer.text for answer in answers]


def test_a_pool_of_another_type_is_left_alone(stack: StackSettings, pool: str) -> None:  # noqa: ARG001
    with pytest.raises(RuntimeError, match=rf"{pool}.* type process, found kubernetes.*work-pool delete"):
        bootstrap.ensure_work_pool()


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_is_of_no_privilege(overlay: str) -> None:
    for name, template in pods(overlay).items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert (pod.get("automountServiceAccountToken") is False) == (name != "worker"), name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name
            assert ":" in container["image"] or overlay == "base", name


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_of_ours_runs_a_program_with_just_its_secrets(overlay: str) -> None:
    for name, template in pods(overlay).items():
        (container,) = template["spec"]["containers"]
        if name in {"worker", "postgres"}:  # images of others
            continue
        program = container["args"][0]
        (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == "secrets"]
        given = [item["key"] for item in volume["secret"]["items"]]
        assert all(item["key"] == item["path"] for item in volume["secret"]["items"])
        assert sorted(given) == sorted(PROGRAMS[program].secrets), name
        assert {*given} <= {*SECRETS, *OPTIONAL}


def test_the_worker_of_prefects_chart_is_that_of_the_manifests() -> None:
    """Its chart is in no registry that tests reach: docs/kubernetes.md says what rendering it by hand has shown."""
    values = yaml.safe_load((FOLDER / "values" / "prefect-worker.yaml").read_text())["worker"]
    server = yaml.safe_load_all((FOLDER / "base" / "prefect.yaml").read_text())
    worker = next(yaml.safe_load_all((FOLDER / "base" / "worker.yaml").read_text()))
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    (hosts,) = re.findall(r"'STUDIO_HOSTS', 'value': '([^']*)'", str(next(server)))
    api = values["selfHostedServerApiConfig"]["apiUrl"]
    assert urlsplit(api).hostname == hosts
    assert {"name": "PREFECT_API_URL", "value": api} in container["env"]
    assert container["image"].endswith(f":{values['image']['prefectTag']}")
    assert values["image"]["prefectTag"].startswith(f"{version('prefect')}-")
    assert values["containerSecurityContext"]["capabilities"] == container["securityContext"]["capabilities"]


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_setting_is_read_by_a_program(overlay: str) -> None:
    data = of_kind(overlay, "ConfigMap")["studio"]["data"]
    ours = {f"STUDIO_{name.upper()}" for name in StackSettings.model_fields}
    known = ours | {name.upper() for name in Settings.model_fields} | {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}
    assert data.keys() <= known
    assert data["STUDIO_NAMESPACE"] == "yolo-studio"


@needs_kubectl
@pytest.mark.parametrize("overlay", WHOLE)
def test_nothing_is_open_unless_a_policy_says_so(overlay: str) -> None:
    """Each client may reach just the services whose addresses it needs, and these take no others."""
    policies = of_kind(overlay, "NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def selected(selector: dict[str, Any]) -> set[str]:
        labels = {name: template["metadata"]["labels"] for name, template in pods(overlay).items()}
        key = "app.kubernetes.io/component"
        if "matchExpressions" in selector:
            (expression,) = selector["matchExpressions"]
            return {name for name, each in labels.items() if each.get(key) in expression["values"]}
        return {name for name, each in labels.items() if selector["matchLabels"].items() <= each.items()}

    let_in, let_out = set(), set()
    for policy in policies.values():
        chosen = selected(policy["spec"]["podSelector"]) if policy["spec"]["podSelector"] else set()
        for rule in policy["spec"].get("ingress", []):
            for source in rule["from"]:
                if "namespaceSelector" not in source:
                    let_in |= {(client, server) for client in selected(source["podSelector"]) for server in chosen}
        for rule in policy["spec"].get("egress", []):
            for target in rule.get("to", []):
                if "podSelector" in target and "namespaceSelector" not in target:
                    servers = selected(target["podSelector"])
                    let_out |= {(client, server) for client in chosen for server in servers}
    assert let_in == let_out
    assert ("flow-run", "prefect") in let_in
    assert ("flow-run", "postgres") not in let_in
    assert ("worker", "object-store") not in let_in
    assert {server for client, server in let_in if client == "worker"} == {"prefect"}


@needs_kubectl
def test_the_role_of_the_worker_is_of_its_namespace_and_names_what_it_may() -> None:
    kinds = {each["kind"] for each in manifests("base")}
    assert not {"ClusterRole", "ClusterRoleBinding"} & kinds
    rules = of_kind("base", "Role")["worker"]["rules"]
    assert all("*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]] for rule in rules)
    assert "secrets" not in {resource for rule in rules for resource in rule["resources"]}


@needs_kubectl
def test_a_restore_runs_beside_the_stores_alone_which_stay_as_they_are() -> None:
    """What is applied after it finds its own stores, and the volume of backups."""
    assert pods(RESTORE).keys() == {"postgres", "object-store", "restore", "flow-run"}
    kept = ("StatefulSet", "PersistentVolumeClaim", "ConfigMap")
    assert of_kind(RESTORE, *kept) == of_kind("overlays/small", *kept)


@needs_kubectl
def test_a_service_names_the_ports_of_its_pods() -> None:
    for overlay in WHOLE:
        templates = {
            template["metadata"]["labels"]["app.kubernetes.io/component"]: template
            for template in pods(overlay).values()
        }
        for name, each in of_kind(overlay, "Service").items():
            container = templates[each["spec"]["selector"]["app.kubernetes.io/component"]]["spec"]["containers"][0]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert {port["name"]: port["port"] for port in each["spec"]["ports"]} == ports, name


@needs_kubectl
def test_no_secret_is_in_the_tree() -> None:
    for overlay in OVERLAYS:
        assert "Secret" not in {each["kind"] for each in manifests(overlay)}
        assert not re.search(r"\b[0-9a-f]{32}\b", rendered(overlay))
