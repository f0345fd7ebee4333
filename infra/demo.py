"""`make demo`: the main job from archives to a gallery, through the deployments, as a user would click it."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from infra import demo_data
from infra.command_errors import StackError
from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import HOST, USER, StackSettings
from infra.upload import upload
from tasks.storage.object_names import Bucket

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from tasks.orchestration.deployed_flows import LogLine

# Measured: 12 epochs of 240 drawn pictures give mAP50 0.99 from the architecture alone; 10 epochs at 320 pixels give
# 0.59 on the blood cells of BCCD from COCO weights.
SYNTHETIC_DATA_PARAMS = {"epochs": 12, "imgsz": 192, "batch": 8}
USER_DATA_PARAMS = {"epochs": 10, "imgsz": 320, "batch": 16}
MAIN_METRICS = ("best/mAP50_mask", "best/mAP50_pose", "best/mAP50", "best/accuracy_top1")


@dataclass(frozen=True, kw_only=True)
class DemoJob:
    """The archives and the base model to train on, and the media to infer over."""

    model_name: str
    archives: list[Path]
    base_model: str
    media: list[Path]
    training: dict[str, int]


def plan(
    settings: StackSettings,
    *,
    archives: list[Path],
    media: list[Path],
    base_model: str | None,
    model_name: str | None,
    training: Mapping[str, int | None],
) -> DemoJob:
    """Return the job; draws its own data if no archive is named. Parameters of `training` that are None are chosen."""
    is_drawn = not archives
    if is_drawn:
        archives, drawn = demo_data.generate(settings.state_dir / "demo")
        media = media or drawn
    chosen = SYNTHETIC_DATA_PARAMS if is_drawn else USER_DATA_PARAMS
    return DemoJob(
        model_name=model_name or ("shapes" if is_drawn else "demo"),
        archives=archives,
        base_model=base_model or "yolo11n.yaml",
        media=media or archives,
        training=chosen | {name: value for name, value in training.items() if value is not None},
    )


class Demo:
    """Runs the job step by step, a line a step, and collects the rows of the last table."""

    def __init__(self, settings: StackSettings, console: Console) -> None:
        # Imported late: Prefect reads PREFECT_API_URL when it is imported.
        from tasks.orchestration import deployed_flows

        self._runs = deployed_flows
        self._settings = settings
        self._console = console
        self._rows: list[tuple[str, str]] = []
        self._began = time.monotonic()

    def run(self, job: DemoJob) -> None:
        """Upload, validate, train, deploy, infer; raises StackError if a run does not end well."""
        base_model = self._upload(job)
        self._validate(job)
        self._deploy(job, self._train(job, base_model))
        self._infer(job)
        self._table()

    def _upload(self, job: DemoJob) -> str:
        upload(self._settings, job.archives, Bucket.DATASETS, replace=True)
        upload(self._settings, job.media, Bucket.MEDIA, "demo/", replace=True)
        self._console.print(f"uploaded {len(job.archives)} archives and {len(job.media)} media files")
        weights = Path(job.base_model)
        if weights.is_file():
            return upload(self._settings, [weights], Bucket.BASE_MODELS, "demo/", replace=True)[0]
        return job.base_model

    def _validate(self, job: DemoJob) -> None:
        started = [self._start_check(path.name) for path in job.archives]
        for run, path in zip(started, job.archives, strict=True):
            self._rows.append((f"dataset {path.name}", self._follow(run, f"validate {path.name}").name or ""))

    def _start_check(self, archive: str) -> UUID:
        """Start the check that the watch would start, which may have done so since the upload."""
        from tasks.dataset_watch.checks import start_check  # late: it imports Prefect, too
        from tasks.dataset_watch.rules import FoundArchive

        stored = s3_client(self._settings, Role.PERSON).head_object(Bucket=Bucket.DATASETS, Key=archive)
        found = FoundArchive(key=archive, etag=stored["ETag"], modified=stored["LastModified"])
        return start_check(found, by_itself=False)

    def _train(self, job: DemoJob, base_model: str) -> str:
        """Train, and return the id of the flow run."""
        parameters: dict[str, object] = {
            "model_name": job.model_name,
            "archives": [path.name for path in job.archives],
            "base_model": base_model,
            "training": job.training,
        }
        size = f"{job.training['epochs']} epochs at {job.training['imgsz']} px"
        run = self._runs.start("train-model", parameters)
        self._console.print(f"  {self._follow(run, f'train {job.model_name}, {size}').message}", soft_wrap=True)
        return str(run)

    def _deploy(self, job: DemoJob, training: str) -> None:
        """Deploy the version of this training, even if an earlier demo left a better model of that name."""
        version, map50 = require_trained(job.model_name, training, self._settings.environment)
        run = self._runs.start("deploy-model", {"model_name": job.model_name, "version": version})
        self._follow(run, f"deploy {job.model_name} version {version}")
        self._rows += [
            ("mAP50 on the validation split", f"{map50:.3f}"),
            ("model", f"{job.model_name} version {version}"),
        ]

    def _infer(self, job: DemoJob) -> None:
        inputs = [f"demo/{path.name}" for path in job.media]
        run = self._runs.start("run-inference", {"model_name": job.model_name, "inputs": inputs})
        self._follow(run, f"infer over {', '.join(path.name for path in job.media)}")
        s3 = s3_client(self._settings, Role.PERSON)
        written = s3.get_object(Bucket=Bucket.PREDICTIONS, Key=f"{run}/summary.json")
        summary: dict[str, Any] = json.loads(written["Body"].read())
        speed = f"{summary['images_per_second']:.1f} ({summary['images']} images, {summary['frames']} video frames)"
        self._rows += [("images/s", speed), ("detections", str(summary["detections"]))]
        gallery = f"http://{HOST}:{self._settings.live_port}/predictions/{run}"
        self._rows += [("results", f"s3://{Bucket.PREDICTIONS}/{run}/"), ("gallery", gallery)]

    def _follow(self, run: UUID, title: str) -> "State[Any]":
        # A bar with the newest line of the log while the run goes on, and one line when it has ended.
        from tasks.orchestration.prefect_client import patient_client
        from tasks.orchestration.run_list import read_progress

        lines: list[LogLine] = []
        live = self._console.is_terminal
        columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
        newest = TextColumn("{task.fields[line]}")
        with Progress(*columns, newest, console=self._console, transient=True, disable=not live) as progress:
            bar = progress.add_task(title, total=1.0, line="")

            def show() -> None:
                new = self._runs.read_log(run, len(lines))
                lines.extend(new)
                line = lines[-1].text.partition("\n")[0] if lines else ""
                done = read_progress([run], patient_client).get(run)
                progress.update(bar, completed=done.share if done else 0, line=line[:60])
                for each in new:
                    if not live and each.text.startswith("epoch "):
                        self._console.print(f"  {each.text}", soft_wrap=True, markup=False)

            state = self._runs.wait(run, follow=show)
        ended = self._runs.require(run)
        seconds = (state.timestamp - (ended.created or state.timestamp)).total_seconds()
        self._console.print(f"{title}: {state.name} ({seconds:.0f} s)", soft_wrap=True)
        if not state.is_completed():
            url = self._settings.environment["PREFECT_API_URL"].removesuffix("/api")
            raise StackError(f"{title} ended {state.name}: {state.message}\n{url}/runs/flow-run/{run}")
        return state

    def _table(self) -> None:
        environment = self._settings.environment
        self._rows.insert(0, ("the studio", f"http://{HOST}:{self._settings.live_port}"))
        self._rows += [
            ("Prefect UI", environment["PREFECT_API_URL"].removesuffix("/api")),
            ("MLflow UI", environment["MLFLOW_TRACKING_URI"]),
            ("their passwords", f"in {self._settings.state_dir / 'env'}; of the studio: STUDIO_PASSWORD, user {USER}"),
            ("time", f"{time.monotonic() - self._began:.0f} s"),
        ]
        table = Table("what", Column("value", overflow="fold"), title="The main job is done", title_justify="left")
        below = {"results", "gallery"}  # long: they stand below, whole, so that they can be clicked and copied
        for name, value in self._rows:
            if name not in below:
                table.add_row(name, value)
        self._console.print(table)
        for name, value in self._rows:
            if name in below:
                self._console.print(f"{name}: {value}", soft_wrap=True)
        self._console.print("The stack stays up: `make status` shows it, `make down` stops it.")


def require_trained(model_name: str, flow_run_id: str, environment: Mapping[str, str]) -> tuple[int, float]:
    """Return the version that a flow run trained, and its mAP50, from the REST API of MLflow."""
    auth = tuple(environment.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    url = f"{environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/"
    with httpx.Client(base_url=url, auth=auth if auth[0] else None, timeout=30) as mlflow:  # type: ignore[arg-type]
        chosen = {"filter": f"name = '{model_name}' and tag.flow_run_id = '{flow_run_id}'"}
        (version,) = mlflow.get("model-versions/search", params=chosen).raise_for_status().json()["model_versions"]
        run = mlflow.get("runs/get", params={"run_id": version["run_id"]}).raise_for_status().json()["run"]
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    return int(version["version"]), float(next(metrics[name] for name in MAIN_METRICS if name in metrics))
