"""Pages about a version, in its tags."""

import contextlib
import json
from unittest.mock import MagicMock
from uuid import uuid4

import pytest

from tasks.tracking import version_pages
from tasks.tracking.registry import ModelVersion
from tasks.tracking.version_pages import VersionPage, keep_page, pages_of

RUNS = [str(uuid4()) for _ in range(5)]
VERSION = ModelVersion(name="shapes", version=3, run_id="", task="detect", image_size=64, class_names=())


def page(run: str, name: str = "evaluation.html", *archives: str, split: str = "val") -> VersionPage:
    return VersionPage(name=name, run=run, archives=dict.fromkeys(archives, "d" * 64), split=split)


def test_of_the_pages_about_the_same_images_the_newest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tags: dict[str, str] = {"archives": json.dumps({"trained.zip": "e" * 64})}
    mlflow = MagicMock()
    mlflow.set_model_version_tag = lambda _model, _version, name, value: tags.update({name: value})
    monkeypatch.setattr(version_pages, "best_effort", lambda _: contextlib.nullcontext(mlflow))
    kept = [
        page(RUNS[0], "evaluation.html", "a.zip", "s3://datasets/b.zip"),
        page(RUNS[1], "evaluation.html", "s3://datasets/b.zip", "a.zip"),
        page(RUNS[2], "evaluation.html", "a.zip", "s3://datasets/b.zip", split="test"),
        page(RUNS[3], "refusal.html"),
        page(RUNS[4], "monitoring.html", split=""),
    ]
    for each in kept:
        keep_page.fn(VERSION, each)
    found = {each.run: each for each in pages_of(tags)}
    assert found.keys() == set(RUNS[1:])
    assert found[RUNS[1]] == page(RUNS[1], "evaluation.html", "a.zip", "b.zip")
    assert found[RUNS[3]].archives == {"trained.zip": "e" * 64}
    assert found[RUNS[4]] == page(RUNS[4], "monitoring.html", split="")  # it is about no archive


@pytest.mark.parametrize(
    "value", ["", "[]", "{}", '{"flow_run_id": "../x", "archives": {"a": "d"}, "split": "val"}', '{"archives": 3}']
)
def test_a_tag_of_somebody_else_is_no_page(value: str) -> None:
    assert pages_of({"page.evaluation.html.1": value, "task": "detect"}) == []
