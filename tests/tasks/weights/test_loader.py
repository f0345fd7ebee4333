"""No loader runs what a .pt file holds, and no process that loads one is given a key."""

import io
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from prefect.logging import disable_run_logger
from ultralytics.utils import downloads

from tasks.errors import StudioError
from tasks.export.exporter import write_graph
from tasks.export.steps import export_onnx
from tasks.tracking import pyfunc_model
from tasks.training import process
from tasks.training.job import EvaluationJob, EvaluationTarget, ReferencePredictionJob, TrainingJob
from tasks.training.trainer import evaluation, reference, training_run
from tasks.weights.isolation import without_credentials
from tasks.weights.loader import WeightsError, open_model, strip_optimizer
from tests.paths import ROOT
from tests.tasks.weights.hostile import Command, checkpoint, kinds, saved, sound, with_attributes

KINDS = sorted(kinds(Path("/nowhere")))


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mark") / "here"


def deflated(weights: bytes) -> bytes:
    """The same zip with parts that are compressed, as an ordinary packer writes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(weights)) as stored, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    return buffer.getvalue()


def written(folder: Path, body: bytes, name: str = "evil.pt") -> Path:
    path = folder / name
    path.write_bytes(body)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_more_than_a_model_is_refused_and_nothing_of_it_runs(kind: str, mark: Path, tmp_path: Path) -> None:
    path = written(tmp_path, kinds(mark)[kind])
    with pytest.raises(WeightsError, match=r"Expected weights that Ultralytics can load.*found 'evil.pt', which"):
        open_model(str(path))
    assert not mark.exists()


def test_the_files_do_harm_where_a_loader_obeys(tmp_path: Path) -> None:
    """What is refused above would have run."""
    mark = tmp_path / "mark"
    torch.load(written(tmp_path, saved(checkpoint(optimizer=Command(mark)))), weights_only=False)
    assert mark.exists()


def test_compressed_weights_are_weights_and_those_that_unpack_to_gigabytes_are_refused_unread(tmp_path: Path) -> None:
    """torch reads parts that somebody has deflated, into as much memory as the directory of the zip claims."""
    path = written(tmp_path, deflated(saved(checkpoint())), "small.pt")
    assert open_model(str(path)).model.names[0]
    path.write_bytes(deflated(saved({"model": None, "zeros": torch.zeros(2**24)})))
    tracemalloc.start()
    with pytest.raises(
        WeightsError, match=r"unpack to at most 20 times their [\d,]+ bytes, found 67[\d,]+ bytes in 'small"
    ):
        open_model(str(path))
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_official_weights_without_a_network_say_what_was_tried_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Download failure for https://github.com/x.")

    monkeypatch.setattr(downloads, "safe_download", unreachable)
    with pytest.raises(WeightsError, match=r"download the official weights yolo11n.pt.*github.com/x.*studio upload"):
        open_model(str(tmp_path / "yolo11n.pt"))


def job(folder: Path, weights: Path) -> TrainingJob:
    return TrainingJob(
        model=str(weights),
        task="detect",
        data=folder / "data.yaml",
        folder=folder,
        arguments={"imgsz": 64, "batch": 1, "workers": 0},
    )


def resumed(folder: Path, weights: Path) -> TrainingJob:
    return replace(job(folder, weights), checkpoint=weights)


def finished(folder: Path, weights: Path) -> TrainingJob:
    """All epochs are done; the last checkpoint is sound, the best is not."""
    results = {"epoch": [1], "time": [1.0]}
    last = saved(checkpoint(train_results=results, train_args={"epochs": 1, "batch": 1}, epoch=0))
    return replace(job(folder, weights), checkpoint=written(folder, last, "ours.pt"), best=weights, finished=True)


def scored(folder: Path, weights: Path) -> None:
    list(
        evaluation.evaluate_models(
            EvaluationJob(
                subjects=(EvaluationTarget(weights=weights, data=folder / "data.yaml", image_size=64),),
                task="detect",
                folder=folder,
                batch=1,
                device="cpu",
                workers=0,
            )
        )
    )


def referred(folder: Path, weights: Path) -> None:
    wanted = ReferencePredictionJob(
        weights=weights,
        sample=folder / "sample.zip",
        served=(folder / "served",),
        reference=folder / "reference",
        image_size=64,
        task="detect",
        folder=folder,
    )
    reference._predict(wanted, _NoSample(), None)  # type: ignore[arg-type]


class _NoSample:
    images = ()


LOADERS: dict[str, Callable[[Path, Path], object]] = {
    "training": lambda folder, weights: training_run.train(job(folder, weights), print, ()),
    "resuming": lambda folder, weights: training_run.train(resumed(folder, weights), print, ()),
    "finishing": lambda folder, weights: training_run.train(finished(folder, weights), print, ()),
    "evaluating": scored,
    "reference for parity": referred,
    "export": lambda folder, weights: write_graph(weights, folder / "export", 64),
    "stripping": lambda _, weights: strip_optimizer(weights),
    "registered model": lambda _, weights: pyfunc_model.load(str(weights)),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["zip", "optimizer", "legacy stream"])
def test_no_loader_runs_what_weights_hold(loader: str, kind: str, mark: Path, tmp_path: Path) -> None:
    path = written(tmp_path, kinds(mark)[kind])
    with pytest.raises((StudioError, TypeError), match=r"xpected|outside the supported"):
        LOADERS[loader](tmp_path, path)
    assert not mark.exists()


def test_an_architecture_is_built_without_running_what_it_says(tmp_path: Path) -> None:
    """Ultralytics evaluates the name of an activation."""
    architecture = dict(sound().yaml)
    architecture["activation"] = f"__import__('os').system('touch {tmp_path / 'mark'}') or nn.SiLU()"
    path = tmp_path / "yolo11n.yaml"
    path.write_text(yaml.safe_dump(architecture))
    with pytest.raises(WeightsError):
        open_model(str(path))
    assert not (tmp_path / "mark").exists()


NAMES = {number: f"c{number}" for number in range(80)}


@pytest.mark.parametrize("names", [[*NAMES.values()], {str(each): NAMES[each] for each in reversed(NAMES)}])
def test_each_class_keeps_its_number(names: object, tmp_path: Path) -> None:
    path = written(tmp_path, saved(checkpoint(model=with_attributes(names=names))))
    assert [*open_model(str(path)).model.names.items()] == [*NAMES.items()]
    registered = pyfunc_model.Model()
    registered.load_context(SimpleNamespace(artifacts={"weights": str(path)}))  # type: ignore[arg-type]
    assert registered.names == NAMES


@pytest.mark.parametrize(
    "names", [None, "abc", {5 + each: NAMES[each] for each in NAMES}, {float(each): NAMES[each] for each in NAMES}]
)
def test_names_without_clear_numbers_are_refused(names: object, tmp_path: Path) -> None:
    path = written(tmp_path, saved(checkpoint(model=with_attributes(names=names))))
    with pytest.raises(WeightsError, match=r"names by number from 0 on without a gap, found (None|'abc'|{5|{0.0)"):
        open_model(str(path))


@pytest.mark.parametrize("name", ["x.pth", "x.onnx", "x.engine", "x.torchscript", "x.py", "x"])
def test_other_files_than_weights_are_refused_by_their_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"found '{name}'"):
        open_model(str(written(tmp_path, b"", name)))


@pytest.mark.slow
def test_a_checkpoint_of_a_training_is_stripped(tmp_path: Path) -> None:
    """What torch may load is forced on Ultralytics for this one call, and a sound file passes."""
    path = written(tmp_path, saved(checkpoint(ema=sound(), optimizer={"state": torch.ones(3)})), "last.pt")
    strip_optimizer(path)
    model = open_model(str(path))
    assert model.ckpt["optimizer"] is None
    assert model.ckpt["ema"] is None
    image = np.zeros((64, 64, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), image)
    assert len(model.predict(str(tmp_path / "a.png"), imgsz=64, verbose=False)) == 1


def test_a_loader_is_safe_where_ultralytics_was_imported_before(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the user's nothing of ours runs before, and Ultralytics reads the environment once."""
    from ultralytics.nn import tasks

    path = str(written(tmp_path, kinds(mark)["zip"]))
    for load in (open_model, pyfunc_model.load):
        monkeypatch.setattr(tasks, "SAFE_LOAD", False)
        with pytest.raises((WeightsError, TypeError)):
            load(path)
        monkeypatch.delattr(tasks, "SAFE_LOAD")
        with pytest.raises((WeightsError, TypeError), match=r"Expected (the|an) Ultralytics"):
            load(path)
        monkeypatch.undo()
    assert not mark.exists()


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "a",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_ENDPOINT_URL": "a",
    "PREFECT_API_AUTH_STRING": "a",
    "PREFECT_API_URL": "a",
    "MLFLOW_TRACKING_PASSWORD": "a",
    "MLFLOW_TRACKING_URI": "a",
    "STUDIO_POSTGRES_URL": "a",
    "TRITON_HTTP_URL": "a",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    "ULTRALYTICS_API_KEY": "a",
    "HF_TOKEN": "a",
    "DATABASE_URL": "a",
}
NEEDED = {"PATH": "/bin", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "1", "https_proxy": "http://p:1", "LC_ALL": "C"}


def test_a_process_that_loads_weights_is_given_no_service_and_no_key(tmp_path: Path) -> None:
    given = without_credentials({**SECRETS, **NEEDED, "PYTHONPATH": "/more"}, tmp_path)
    assert given == {**NEEDED, "PYTHONPATH": f"{tmp_path}:/more", "ULTRALYTICS_SAFE_LOAD": "1"}


def test_trainings_and_exports_begin_in_that_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, untold: None
) -> None:
    del untold
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {tmp_path}/env-$2\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    process.run_job(job(tmp_path, tmp_path / "x.pt"), print)
    with pytest.raises(StudioError, match="exited with status 1"):
        export_onnx.fn(tmp_path / "x.pt", tmp_path, 64)
    for module in ("tasks.training.trainer", "tasks.export"):
        lines = (tmp_path / f"env-{module}").read_text().splitlines()
        environment: dict[str, Any] = dict(line.split("=", 1) for line in lines if "=" in line)
        assert not environment.keys() & SECRETS.keys()
        assert environment["ULTRALYTICS_SAFE_LOAD"] == "1"
        assert environment["PYTHONPATH"].startswith(str(ROOT))


@pytest.fixture
def untold() -> Any:
    with disable_run_logger():
        yield
