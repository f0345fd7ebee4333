"""The training process: real trainings of a few tiny epochs, and what ends them."""

import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from prefect.logging import disable_run_logger

from infra import demo_data
from tasks.merge.written_files import list_images
from tasks.parameters import TrainingOverrides, TrainingParams
from tasks.training import steps as training_steps
from tasks.training.attempts import TrainingError
from tasks.training.base_models import BaseModelError
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import EvaluationTarget, Failure, TrainingJob, from_json_line, to_json_line
from tasks.training.process import run_job
from tasks.training.report.worst_images import embed_worst_images
from tasks.training.trainer import worst_predictions
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.detections import Detections
from tasks.weights.fork_server import CHECKOUT
from tests.tasks.training.disk import Disk
from tests.waiting import eventually

EPOCHS = 3
SYNSET = "n01440764"  # to Ultralytics, which is asked for no name, a tench
ODD = "a$b_$"  # to a library that draws it, half a formula
TINY = TrainingParams(epochs=EPOCHS, imgsz=64, batch=8, device="cpu")


@pytest.fixture(autouse=True)
def _no_run() -> Iterator[None]:
    with disable_run_logger():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    plan = demo_data.ArchivePlan(name="s.zip", classes=("circle", "square"), train=16, val=6, seed=1)
    with zipfile.ZipFile(demo_data.write_archive(plan, folder)) as archive:
        archive.extractall(folder)
    described = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(described.replace("- circle", f"- {SYNSET}").replace("- square", f"- '{ODD}'"))
    return folder / "data.yaml"


def job(data: Path, folder: Path, **others: Any) -> TrainingJob:
    folder.mkdir(exist_ok=True)
    return TrainingJob(
        model="yolo11n.yaml",
        task="detect",
        data=data,
        folder=folder,
        arguments=training_steps.ultralytics_arguments(TINY, **{"plots": False, **others}),
    )


OVERRIDES: dict[str, Any] = yaml.safe_load("""
# Every argument, and none at its default but those that only a GPU or a compiler changes.
{rect: true, cos_lr: true, overlap_mask: false, cls_remap: false, channels_last: false, compile: false, amp: false,
optimizer: AdamW, copy_paste_mode: mixup, auto_augment: augmix, freeze: [0, 1], multi_scale: 0.25, cls_pw: 0.5,
close_mosaic: 1, nbs: 16, mask_ratio: 2, lr0: 0.002, lrf: 0.2, momentum: 0.8, weight_decay: 0.001, warmup_epochs: 1.5,
warmup_momentum: 0.5, warmup_bias_lr: 0.05, box: 5.0, cls: 0.7, dfl: 1.0, pose: 10.0, kobj: 2.0, rle: 2.0, angle: 2.0,
hsv_h: 0.1, hsv_s: 0.1, hsv_v: 0.1, degrees: 5.0, translate: 0.2, scale: 0.3, shear: 1.0, perspective: 0.0001,
flipud: 0.5, fliplr: 0.25, bgr: 0.1, mosaic: 0.5, mixup: 0.1, cutmix: 0.1, copy_paste: 0.1, erasing: 0.1, dropout: 0.1}
""")


@pytest.mark.slow
def test_every_override_reaches_ultralytics(data: Path, tmp_path: Path) -> None:
    chosen = OVERRIDES | {"single_cls": True}
    assert {*chosen} == {*TrainingOverrides.model_fields}
    training = TINY.model_copy(update={"epochs": 1, "overrides": TrainingOverrides.model_validate(chosen)})
    job = training_steps.training_job(data, "detect", "yolo11n.yaml", training, tmp_path / "job")
    told: list[object] = []
    assert run_job(job, told.extend) is None
    (model,) = [event for event in told if isinstance(event, TrainedModel)]
    reached = yaml.safe_load((model.folder / "args.yaml").read_text())
    assert OVERRIDES.items() <= reached.items()
    assert reached["single_cls"] is False  # the merge has done it
    assert load_model(str(model.weights), "detect").ckpt["train_args"]["lr0"] == OVERRIDES["lr0"]


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Disk]:
    """A training that nothing happens to, but that one of its listeners fails."""
    disk = Disk(tmp_path_factory.mktemp("straight"))
    with disable_run_logger():
        return training_steps.train.fn(job(data, disk.folder / "job", plots=True), disk, [broken, disk]), disk


@pytest.mark.slow
def test_the_worst_pictures_are_left_for_the_report(straight: tuple[TrainedModel, Disk]) -> None:
    """After three epochs nothing is found: every label is missed, and said so in a drawing of both sides."""
    shown = embed_worst_images(straight[0].folder)
    assert len(shown) == 6
    assert all(each.mistaken.missed > 0 for each in shown)
    wrong = [each.mistaken.missed + each.mistaken.extra for each in shown]
    assert wrong == sorted(wrong, reverse=True)
    assert all(each.truth.startswith("data:image/jpeg") and each.found != each.truth for each in shown)


@pytest.mark.slow
def test_the_worst_pictures_name_classes_as_the_merge_does_and_draw_what_was_counted(
    data: Path, straight: tuple[TrainedModel, Disk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics' own `names` has a fish for an identifier of ImageNet; no more detections than the evaluation had."""
    drawn: list[tuple[int, list[str]]] = []

    def draw(image: Any, found: Detections, names: list[str], **_: object) -> Any:
        drawn.append((len(found), names))
        return image

    monkeypatch.setattr(worst_predictions, "annotate_image", draw)
    label = {"bboxes": np.full((1, 4), 0.5), "cls": np.zeros((1, 1)), "segments": []}
    dataset = SimpleNamespace(im_files=list_images(data, "detect", "val"), labels=[label])
    worst_predictions.draw_worst(
        [worst_predictions.Mistakes(0, 1, 0, sure=0)],
        SimpleNamespace(args=SimpleNamespace(data=str(data), imgsz=64), dataloader=SimpleNamespace(dataset=dataset)),
        straight[0].weights,
        ("detect", "cpu"),
        tmp_path / "worst",
    )
    assert drawn == [(1, [SYNSET, ODD]), (0, [SYNSET, ODD])]


def broken(epoch: EpochResult) -> None:
    """A listener that fails, which stops nothing."""
    raise RuntimeError(epoch)


def train_with(gibibytes: float, wanted: TrainingJob, disk: Disk) -> TrainedModel:
    """Train where no process may have more data in memory than this; peaks are 2.4 GiB for batch 16, 1.4 for 2."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(gibibytes * 2**30),) * 2)
    with disable_run_logger():
        return training_steps.train.fn(wanted, disk, [disk])


def training_process() -> psutil.Process:
    (process,) = [
        child
        for child in psutil.Process().children()
        if "tasks.training.trainer" in child.cmdline() and child.is_running()
    ]
    return process


@pytest.mark.slow
def test_every_epoch_and_the_model_are_reported(straight: tuple[TrainedModel, Disk]) -> None:
    model, disk = straight
    assert disk.trained == [1, 2, 3]
    assert {"train/box_loss", "val/cls_loss", "metrics/mAP50", "metrics/mAP50-95", "lr/pg0"} <= set(
        disk.reported[0].metrics
    )
    assert [epoch.is_last for epoch in disk.reported] == [False, False, True]
    assert model.weights.is_file()
    assert model.class_names == (SYNSET, ODD)
    assert load_model(str(model.weights), "detect").model.names == {0: SYNSET, 1: ODD}
    assert (model.scores.task, model.scores.images, model.epochs, model.batch) == ("detect", 6, EPOCHS, 8)
    assert set(model.scores.classes) == {SYNSET, ODD}
    assert (model.folder / "BoxPR_curve.png").is_file()
    assert set(model.scores.metrics) >= {"mAP50", "mAP50-95", "precision", "recall"}


@pytest.mark.heavy
@pytest.mark.slow
def test_a_killed_training_goes_on_after_its_last_epoch(
    data: Path, straight: tuple[TrainedModel, Disk], tmp_path: Path
) -> None:
    """The kernel, or a person, kills the process; the model is then trained to its end, no epoch twice.

    Until then its metrics are those of the training with the same seed that nobody kills.
    """
    disk = Disk(tmp_path)

    def kill(epoch: EpochResult) -> None:
        if epoch.number == 2 and not epoch.restored:
            training_process().kill()

    model = training_steps.train.fn(job(data, tmp_path / "job"), disk, [disk, kill])
    assert disk.trained == [1, 2, 3]
    assert disk.restored == [0, 2]
    assert [epoch.metrics for epoch in disk.reported[:2]] == [epoch.metrics for epoch in straight[1].reported[:2]]
    assert model.epochs == EPOCHS
    assert len((model.folder / "results.csv").read_text().splitlines()) == 1 + EPOCHS


@pytest.mark.heavy
def test_a_training_killed_after_its_last_epoch_is_only_evaluated(
    data: Path, straight: tuple[TrainedModel, Disk], tmp_path: Path
) -> None:
    reported: list[object] = []
    last = straight[1].folder / f"{EPOCHS}.pt"
    best = straight[1].reported[-1].best
    failure = run_job(
        replace(
            job(data, tmp_path / "job"),
            checkpoint=last,
            best=straight[1].folder / f"{best}.pt",
            best_epoch=best,
            finished=True,
        ),
        reported.extend,
    )
    assert failure is None
    *epochs, model = reported
    assert [(epoch.number, epoch.restored) for epoch in epochs] == [(1, True), (2, True), (3, True)]  # type: ignore[attr-defined]
    assert isinstance(model, TrainedModel)
    assert (model.epochs, model.best_epoch, model.class_names) == (EPOCHS, best, (SYNSET, ODD))
    assert set(model.scores.classes) == {SYNSET, ODD}
    assert model.scores.primary == pytest.approx(straight[0].scores.primary, abs=1e-3)


@pytest.mark.heavy
def test_too_little_memory_halves_the_batch(data: Path, tmp_path: Path) -> None:
    """A limit on memory makes the allocator refuse the large batch, as a full GPU does."""
    wanted = job(data, tmp_path / "job", epochs=1, imgsz=320, batch=16)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a limit of the process that the training inherits
        model = pool.submit(train_with, 1.9, wanted, Disk(tmp_path)).result()
    assert 1 <= model.batch < 16
    assert model.epochs == 1


@pytest.mark.parametrize(
    ("task", "model", "expected"),
    [
        ("segment", "yolo11n.yaml", "Expected a model for the task 'segment'.*found a model for 'detect'.*yolo11n-seg"),
        ("detect", "torn.pt", "The training stopped: "),
        ("detect", "yolov8n-p6.yaml", "training.imgsz to be a multiple of 64.*found 96. Set 64 or 128"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_trained_from_is_reported(
    data: Path, tmp_path: Path, task: str, model: str, expected: str
) -> None:
    (tmp_path / "torn.pt").write_bytes(b"no pickle")
    wanted = replace(job(data, tmp_path / "job", imgsz=96), task=task)
    wanted = replace(wanted, model=model if model.endswith(".yaml") else str(tmp_path / model))
    with pytest.raises(TrainingError, match=expected):
        training_steps.train.fn(wanted, Disk(tmp_path), [])


@pytest.mark.parametrize("name", ["../evil.pt", "https://example.com/yolo11n.pt", "yolo11n.onnx", "evil.yaml", ""])
def test_weights_from_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BaseModelError, match="Expected base_model to be"):
        training_steps.resolve_base_model(name, None, tmp_path)


@pytest.mark.slow
def test_models_are_evaluated_in_order(data: Path, straight: tuple[TrainedModel, Disk], tmp_path: Path) -> None:
    subject = EvaluationTarget(weights=straight[0].weights, data=data, image_size=64)
    first, second = training_steps.evaluate.fn([subject, replace(subject, image_size=96)], "detect", TINY, tmp_path)
    assert first.images == second.images == 6
    assert first.primary == pytest.approx(straight[0].scores.primary, abs=1e-3)
    assert set(first.classes) == {SYNSET, ODD}


@pytest.mark.heavy
def test_a_training_ends_with_the_flow_run_that_was_killed(data: Path, tmp_path: Path) -> None:
    """Nobody is left to end it, so it has to see for itself."""
    wanted = job(data, tmp_path / "job", epochs=1000)
    (tmp_path / "job.json").write_text(to_json_line(wanted))
    script = (
        "import sys, time; from pathlib import Path; from tasks.training.job import from_json_line;"
        "from tasks.training.process import run_job; run_job(from_json_line(Path(sys.argv[1]).read_text()), print)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "job.json")], cwd=CHECKOUT)
    try:
        eventually(lambda: list(wanted.folder.glob("checkpoints/*.pt")), "a checkpoint", 60)
        children = psutil.Process(owner.pid).children()
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert (len(gone), alive) == (1, [])


def test_what_happens_to_the_flow_ends_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that is none of a listener's, as a cancellation is, leaves no process behind."""
    family: list[psutil.Process] = []
    monkeypatch.setattr("tasks.training.process.CALLBACK_INTERVAL_S", 1.0)

    class Cancelled(BaseException):
        pass

    def cancel() -> None:
        family.extend([training_process(), *training_process().children(recursive=True)])
        raise Cancelled

    with pytest.raises(Cancelled):
        training_steps.train.fn(job(data, tmp_path / "job", epochs=1000), Disk(tmp_path), [], cancel)
    assert family
    assert not any(process.is_running() for process in family)


def test_a_process_that_says_nothing_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python itself may not come up, where its environment is broken."""
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    failure = run_job(TrainingJob(model="yolo11n.yaml", task="detect", data=tmp_path, folder=tmp_path), print)
    assert isinstance(failure, Failure)
    assert "exited with status 1" in failure.reason


@pytest.mark.heavy
def test_several_processes_tell_the_same(data: Path, tmp_path: Path) -> None:
    """With several GPUs Ultralytics sends the callbacks to processes of its own; here one such runs, on the CPU."""
    script = (
        "import functools, sys; from pathlib import Path\n"
        "from tasks.training.job import append_event, from_json_line\n"
        "from tasks.training.trainer import training_run, ultralytics_setup\n"
        "from ultralytics.models.yolo.detect import DetectionTrainer\n"
        "from ultralytics.utils.dist import generate_ddp_file\n"
        "job = from_json_line(Path(sys.argv[1]).read_text())\n"
        "model = ultralytics_setup.load_model(job.model, job.task)\n"
        "say = functools.partial(append_event, Path(sys.argv[2]))\n"
        "training_run.UltralyticsCallbacks(job, say, (1,)).add_to(model)\n"
        "arguments = {'data': str(job.data), 'model': job.model, 'save_dir': str(job.folder / 'training')}\n"
        "made = DetectionTrainer(overrides=dict(job.arguments) | arguments, _callbacks=model.callbacks)\n"
        "print(generate_ddp_file(made))\n"
    )
    (tmp_path / "job.json").write_text(to_json_line(job(data, tmp_path / "job", epochs=1)))
    command = [sys.executable, "-c", script, str(tmp_path / "job.json"), str(tmp_path / "events.jsonl")]
    made = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    file = Path(made.stdout.splitlines()[-1])
    try:
        subprocess.run([sys.executable, str(file)], cwd=tmp_path, capture_output=True, check=True)
    finally:
        file.unlink()
        file.with_suffix(".pt").unlink()
    epoch, model = [from_json_line(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (epoch.number, epoch.checkpoint.is_file(), model.epochs) == (1, True, 1)


@pytest.mark.slow
def test_no_integration_of_ultralytics_logs_beside_us(data: Path, tmp_path: Path) -> None:
    """Not in the processes of several GPUs either, which get the callbacks and read the settings file."""
    script = (
        "import pickle, sys; from pathlib import Path; import cloudpickle\n"
        "from tasks.training.job import from_json_line\n"
        "from tasks.training.trainer.training_run import UltralyticsCallbacks\n"
        "job = from_json_line(Path(sys.argv[1]).read_text())\n"
        "sent = cloudpickle.dumps(UltralyticsCallbacks(job, print))\n"
        "from ultralytics.utils import SETTINGS\n"
        "dict.update(SETTINGS, mlflow=True)\n"
        "pickle.loads(sent)\n"
        "print(SETTINGS['mlflow'])\n"
    )
    (tmp_path / "job.json").write_text(to_json_line(job(data, tmp_path / "job")))
    command = [sys.executable, "-c", script, str(tmp_path / "job.json")]
    assert subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout == "False\n"
