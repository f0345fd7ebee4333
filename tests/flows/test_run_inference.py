"""Batch inference as its flow does it, on a served model and real media: everything once, whatever is wrong."""

import io
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import av
import boto3
import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import supervision as sv
from mlflow import MlflowClient
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact, State

from flows.run_inference import run_inference
from tasks.inference import media_inputs as media_store
from tasks.inference import work_queue
from tasks.inference.results.chunk_results import merge_chunk_results
from tasks.inference.results.parquet import schema
from tasks.inference.work_plan import split_into_chunks
from tasks.inference.work_queue import WorkQueue
from tasks.media.video_writer import VideoWriter
from tasks.parameters import InferenceParams
from tasks.serving import model_repository
from tasks.storage.object_store import ObjectStore
from tasks.vision.geometry import Floats
from tests.emitted import emitted, related
from tests.flows.registered import pictures, register
from tests.flows.steps import UNCOMPARED, deploy
from tests.tasks.dataset.test_zip_names import raw_zip
from tests.tasks.media.test_avif import SIDES, claiming, encoded
from tests.tasks.media.test_decode_cost import CLEAR, gif, scans

pytestmark = pytest.mark.usefixtures("stack")
FRAMES, KEPT = 12, 5


@pytest.fixture(scope="module")
def model(weights: Path, sample: Path, graph: Path) -> str:
    """A served model that finds much on drawn shapes."""
    name = f"looker-{uuid4().hex[:8]}"
    register(name, weights, sample)
    model_repository.publish_version.fn(name, 1, graph)
    assert deploy(name, 1, **UNCOMPARED).is_completed()
    return name


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def clip(folder: Path) -> bytes:
    """A video of `FRAMES` frames, with a gap in its times."""
    with VideoWriter(folder / "clip.mp4", None) as writer:
        for number, picture in enumerate(pictures(FRAMES)):
            writer.write(picture, number * 40.0 + (number > 6) * 500)
    return (folder / "clip.mp4").read_bytes()


def put(files: Mapping[str, bytes]) -> str:
    """Put files into bucket media; return their prefix."""
    prefix = f"run-{uuid4().hex[:8]}/"
    for name, body in files.items():
        boto3.client("s3").put_object(Bucket="media", Key=prefix + name, Body=body)
    return prefix


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> str:
    """70 images, more than fit into a chunk, of them one damaged; a zip of 3, one damaged; a video."""
    images = {f"{number:03d}.jpg": jpeg(picture) for number, picture in enumerate(pictures(70))}
    images["004.jpg"] = images["004.jpg"][:500]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, picture in enumerate(pictures(3)):
            archive.writestr(f"in/{number}.jpg", jpeg(picture)[: 300 if number == 1 else None])
    return put({**images, "packed.zip": packed.getvalue(), "video.mp4": clip(tmp_path_factory.mktemp("clip"))})


def infer(model: str, *inputs: str, **params: Any) -> State:
    state: State = run_inference(model, list(inputs), InferenceParams.model_validate(params), return_state=True)
    return state


def result(state: State, name: str) -> bytes:
    key = f"{state.state_details.flow_run_id}/{name}"
    return boto3.client("s3").get_object(Bucket="predictions", Key=key)["Body"].read()


def table(state: State, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(result(state, name)))


@pytest.fixture(scope="module")
def whole(model: str, media: str) -> State:
    """A run over everything, which keeps the first frames of its video as images."""
    return infer(model, media, confidence=0.01, image_frames=KEPT)


def test_every_input_comes_out_once_in_order(whole: State, media: str) -> None:
    assert (whole.type.name, whole.name) == ("COMPLETED", "Completed with 2 failures")
    place = f"s3://media/{media}"
    images = [f"{place}{number:03d}.jpg" for number in range(70) if number != 4]
    expected = [*images, f"{place}packed.zip/in/0.jpg", f"{place}packed.zip/in/2.jpg", *[f"{place}video.mp4"] * FRAMES]
    seen = table(whole, "pictures.parquet")
    assert seen["source"].to_pylist() == expected
    assert seen["frame"].to_pylist()[-FRAMES - 1 :] == [None, *range(FRAMES)]
    assert seen["timestamp_ms"].to_pylist()[-1] == pytest.approx((FRAMES - 1) * 40 + 500, abs=0.1)
    failures = [json.loads(line) for line in result(whole, "failures.jsonl").splitlines()]
    assert [failure["input"] for failure in failures] == [f"{place}004.jpg", f"{place}packed.zip/in/1.jpg"]


def test_rows_and_coco_say_the_same(whole: State, model: str) -> None:
    rows, seen = table(whole, "predictions.parquet"), table(whole, "pictures.parquet")
    assert rows.schema.equals(schema("detect", tracked=False))
    parts = [json.loads(result(whole, name)) for name in ("coco.json", "coco-frames.json")]
    found = sum(len(part["annotations"]) for part in parts)
    assert rows.num_rows == found == sum(seen["detections"].to_pylist()) > 100
    listed = [image for part in parts for image in part["images"]]
    assert [image["source"] for image in listed] == seen["source"].to_pylist()
    assert [image["file_name"] for image in parts[0]["images"]] == seen["image"].to_pylist()[: 71 + KEPT]
    others = [f"{seen['source'][-1].as_py()}#frame={number}" for number in range(KEPT, FRAMES)]
    assert [image["file_name"] for image in parts[1]["images"]] == others
    assert set(rows["model_version"].to_pylist()) == {1}
    assert set(rows["model_name"].to_pylist()) == {model}


def test_a_downloaded_run_loads_in_other_tools(whole: State, tmp_path: Path) -> None:
    """Each image and each frame that is kept is a file that coco.json names, with its labels beside it."""
    download(whole, tmp_path)
    seen, place = table(whole, "pictures.parquet"), str(tmp_path)
    coco = sv.DetectionDataset.from_coco(place, str(tmp_path / "coco.json"))
    labels = sv.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    assert len(coco) == len(labels) == seen.num_rows - FRAMES + KEPT == 71 + KEPT
    expected = seen["detections"].to_pylist()[: 71 + KEPT]
    assert [len(found) for _, image, found in coco if image is not None] == expected
    assert sum(len(found) for _, _, found in labels) == sum(expected)
    (original,) = (tmp_path / "images").glob("000-*.jpg")
    assert original.read_bytes() == jpeg(next(iter(pictures(1))))


def download(state: State, folder: Path) -> None:
    """What `aws s3 sync` does."""
    prefix, s3 = f"{state.state_details.flow_run_id}/", boto3.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="predictions", Prefix=prefix):
        for entry in page["Contents"]:
            path = folder / entry["Key"].removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file("predictions", entry["Key"], str(path))


def test_pandas_reads_a_run_by_its_address(whole: State) -> None:
    """In the studio's own environment, with nothing but what `.studio/env` says."""
    place = f"s3://predictions/{whole.state_details.flow_run_id}"
    assert len(pd.read_parquet(f"{place}/predictions.parquet")) == table(whole, "predictions.parquet").num_rows
    images = pd.read_parquet(f"{place}/pictures.parquet")["image"]
    assert (images.count(), set(images.dropna().str.slice(0, 7))) == (71 + KEPT, {"images/"})


def test_the_gallery_is_linked_from_prefect_and_mlflow(whole: State) -> None:
    summary = json.loads(result(whole, "summary.json"))
    assert (summary["images"], summary["videos"], summary["frames"]) == (71, 1, FRAMES)
    experiment: Any = MlflowClient().get_experiment_by_name("inference")
    tag = f"tags.flow_run_id = '{whole.state_details.flow_run_id}'"
    (tracked,) = MlflowClient().search_runs([experiment.experiment_id], tag)
    assert summary["gallery"] in tracked.data.tags["mlflow.note.content"]
    assert tracked.data.metrics["images"] == 71
    assert urlopen(summary["gallery"]).read() == result(whole, "index.html")
    assert b"Detections count from 0.01." in result(whole, "index.html")
    shown = artifacts(whole)
    assert [(each.type, each.data) for each in shown if each.key == "gallery"] == [
        ("markdown", f"[Open the gallery]({summary['gallery']})")
    ]
    (report,) = [each for each in shown if each.key == "inference-report"]
    assert report.type == "markdown"
    assert summary["gallery"] in str(report.data)
    assert [each.data for each in shown if each.type == "progress"] == [100]


def artifacts(state: State) -> list[Artifact]:
    """What a run shows in Prefect."""
    run = state.state_details.flow_run_id
    assert run is not None
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])))
    return list(found)


def test_the_video_is_drawn_and_plays(whole: State) -> None:
    prefix = f"{whole.state_details.flow_run_id}/annotated/"
    listed = boto3.client("s3").list_objects_v2(Bucket="predictions", Prefix=prefix)["Contents"]
    (film,) = [entry["Key"] for entry in listed if entry["Key"].endswith(".mp4")]
    body = boto3.client("s3").get_object(Bucket="predictions", Key=film)["Body"].read()
    with av.open(io.BytesIO(body), "r") as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    assert len(listed) == 71 + 1


def test_nothing_is_left_of_the_work(whole: State) -> None:
    assert "Contents" not in boto3.client("s3").list_objects_v2(
        Bucket="runs", Prefix=f"{whole.state_details.flow_run_id}/inference/"
    )


def test_a_run_that_is_published_is_an_event(whole: State, model: str) -> None:
    run = str(whole.state_details.flow_run_id)
    event = emitted("inference.completed", f"prediction:{run}")
    summary = json.loads(boto3.client("s3").get_object(Bucket="predictions", Key=f"{run}/summary.json")["Body"].read())
    facts = {"inputs": summary["inputs"], "detections": summary["detections"], "failures": summary["failed_inputs"]}
    named = {"model": model, "version": 1, "run": run, "gallery": summary["gallery"]}
    assert event["payload"] == facts | named
    assert related(event) == {f"model:{model}", f"version:{model}/1"}


def test_a_run_with_too_many_failures_fails_and_keeps_what_it_has(model: str, media: str) -> None:
    state = infer(model, f"{media}packed.zip", annotate=False, max_failure_share=0.3)
    assert state.is_failed()
    assert "more than max_failure_share 0.3 allows. The first: " in str(state.message)
    assert "packed.zip/" in str(state.message)
    seen = table(state, "pictures.parquet")
    assert (seen.num_rows, seen["image"].null_count) == (2, 2)


def test_costly_pictures_among_good_ones_cost_no_time(model: str) -> None:
    """Each of the JPEGs takes 17 s to decode. Of what else is in the zip nothing goes without a word."""
    good = [jpeg(picture) for picture in pictures(6)]
    names = ["in/0.jpg", "in/1.jpg", "in/.hidden.jpg", "画像/りんご.jpg", "画像/みかん.jpg", "画像/不良品.jpg"]
    contents = {name.encode("cp932"): body for name, body in zip(names, good, strict=True)}
    endless = scans(3000, Image.new("RGB", (3000, 3000)))
    costly = {f"in/{number}.jpg": endless for number in range(2, 8)}
    costly |= {"in/a.gif": gif([CLEAR] * 100_000), "in/a.avif": claiming(encoded(size=(600, 400)), *SIDES)}
    contents |= {name.encode(): body for name, body in costly.items()} | {
        b"in/notes.txt": b"",
        b"__MACOSX/in/._0.jpg": b"",
    }
    place = f"s3://media/{put({'attack.zip': raw_zip([(name, 0, b'') for name in contents], contents)})}attack.zip"

    began = time.monotonic()
    state = infer(model, place, annotate=False, max_failure_share=0.9)
    assert time.monotonic() - began < 30
    assert (state.type.name, state.name) == ("COMPLETED", f"Completed with {len(costly)} failures")
    assert table(state, "pictures.parquet")["source"].to_pylist() == [f"{place}/{name}" for name in names]
    told = [json.loads(line) for line in result(state, "failures.jsonl").splitlines()]
    failures = {line["input"]: line["reason"] for line in told if line["severity"] == "error"}
    assert failures.keys() == {f"{place}/{name}" for name in costly}
    assert all("decodes in the time of an ordinary one" in reason for reason in failures.values())
    warnings = [line["reason"] for line in told if line["severity"] == "warning"]
    assert [line["input"] for line in told if line["severity"] == "warning"] == [place, place]
    assert "3 without, read as Shift JIS" in warnings[0]
    assert "1 files that are none by their names (1 .txt)" in warnings[1]


@pytest.mark.parametrize(
    ("inputs", "params", "reason"),
    [
        (["nowhere/"], {}, "Expected images or videos at s3://media/nowhere/, found none"),
        (None, {"class_confidence": {"dragon": 0.5}}, "found 'dragon'"),
    ],
    ids=["no media", "no such class"],
)
def test_what_cannot_be_done_is_said(
    model: str, media: str, inputs: list[str] | None, params: dict[str, Any], reason: str
) -> None:
    state = infer(model, *(inputs or [f"{media}000.jpg"]), **params)
    assert state.is_failed()
    assert reason in str(state.message)


@pytest.fixture
def victim(model: str, media: str) -> WorkQueue:
    """A run that shares its work with two others, as far as its plan and its invitations say."""
    chosen = InferenceParams.model_validate({"confidence": 0.4, "shards": 2, "annotate": False})
    about = {"model_name": model, "version": 1, "canary_run": None, "inference": chosen.model_dump(mode="json")}
    queue = work_queue.create_queue(
        str(uuid4()), split_into_chunks(media_store.list_media_sources([f"{media}packed.zip"])), about
    )
    queue.invite(str(uuid4()), 1)
    return queue


def test_a_share_without_an_invitation_is_refused(
    victim: WorkQueue, model: str, media: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can start a run can name another, and read all of its plan."""
    monkeypatch.setattr(WorkQueue.require_invited, "__defaults__", (0.0,))
    for number in (1, 2, 64):
        state = infer(model, media, confidence=0, shard={"run": victim.run, "number": number, "of": 1})
        assert state.is_failed()
        expected = f"to have started this run for share {number}, found that it started it for no share"
        assert expected in str(state.message)
    assert victim.done() == set()
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="predictions", Prefix=victim.run)


def test_a_share_is_worked_on_as_the_plan_says(
    victim: WorkQueue, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever model and parameters the run that takes it was started with."""
    monkeypatch.setattr(WorkQueue, "require_invited", lambda *_: None)
    state = infer("another", "nowhere/", confidence=0, track=True, shard={"run": victim.run, "number": 1, "of": 1})
    assert state.is_completed(), state.message
    assert victim.done() == set(range(0, victim.plan.chunks, 2))
    assert victim.plan.chunks == 1
    merge_chunk_results(victim.results(tmp_path), tmp_path / "results")
    rows = pq.read_table(tmp_path / "results" / "predictions.parquet")
    assert set(rows["model_name"].to_pylist()) == {model}
    assert min(rows["confidence"].to_pylist()) >= 0.4
    assert "track_id" not in rows.schema.names


def test_thresholds_of_classes_steps_of_frames_and_tracks(model: str, media: str, whole: State) -> None:
    every = table(whole, "predictions.parquet")
    names = set(every["class_name"].to_pylist())
    assert len(names) > 1
    kept = surest_class(every, frames={0, 5, 10})
    state = infer(
        model,
        f"{media}video.mp4",
        confidence=0.01,
        class_confidence=dict.fromkeys(names - {kept}, 1.0),
        frame_step=5,
        track=True,
    )
    assert state.is_completed(), state.message
    assert table(state, "pictures.parquet")["frame"].to_pylist() == [0, 5, 10]
    rows = table(state, "predictions.parquet")
    assert rows.schema.equals(schema("detect", tracked=True))
    assert set(rows["class_name"].to_pylist()) == {kept}
    tracks = [number for number in rows["track_id"].to_pylist() if number is not None]
    assert tracks
    assert min(tracks) >= 1


def surest_class(rows: pa.Table, frames: set[int]) -> str:
    """The class of the detection, in these frames of a video, that a tracker follows first."""
    found = [row for row in rows.to_pylist() if row["frame"] in frames]
    return str(max(found, key=lambda row: row["confidence"])["class_name"])


def test_tiles_find_what_is_small(model: str, media: str) -> None:
    """A tile of 48 pixels is seen at seven times the size of the picture, so what is found is as much smaller."""
    whole, tiled = (
        infer(model, f"{media}000.jpg", confidence=0.01, annotate=False, tiles=tiles)
        for tiles in (None, {"size": 48, "overlap": 0.25})
    )
    assert whole.is_completed(), whole.message
    assert tiled.is_completed(), tiled.message
    of_whole, of_tiles = (longer_sides(table(state, "predictions.parquet")) for state in (whole, tiled))
    assert len(of_tiles) > 2 * len(of_whole)
    assert np.median(of_tiles) < np.median(of_whole) / 2


def longer_sides(rows: pa.Table) -> Floats:
    """Of each box, in pixels of the picture."""
    x1, y1, x2, y2 = (np.asarray(rows[name], np.float32) for name in ("x1", "y1", "x2", "y2"))
    sides: Floats = np.maximum(x2 - x1, y2 - y1)
    return sides


def test_only_what_is_new_is_done(model: str) -> None:
    """Two images, a zip with a broken one, a broken one; then again; then one more and one replaced; then deleted."""
    first, second, third, fourth = (jpeg(picture) for picture in pictures(4))
    archive = raw_zip([(name, 0, b"") for name in (b"1.jpg", b"bad.jpg")], {b"1.jpg": third, b"bad.jpg": third[:300]})
    place = put({"a.jpg": first, "b.jpg": second, "p.zip": archive})
    names = [f"s3://media/{place}{name}" for name in ("a.jpg", "b.jpg", "p.zip/1.jpg", "c.jpg")]
    failed = infer(model, place, only_new=True, annotate=False, max_failure_share=0.1)
    assert failed.is_failed()

    began = infer(model, place, only_new=True, annotate=False)
    assert table(began, "pictures.parquet")["source"].to_pylist() == names[:3]
    assert table(began, "inputs.parquet")["source"].to_pylist() == names[:3]

    again = infer(model, place, only_new=True, annotate=False, max_failure_share=0.3)
    assert again.name == "Completed with 1 failures"
    assert f"3 inputs left out, done by run {began.state_details.flow_run_id} (3)" in str(again.message)
    assert table(again, "pictures.parquet").num_rows == 0

    boto3.client("s3").put_object(Bucket="media", Key=f"{place}c.jpg", Body=third)
    boto3.client("s3").put_object(Bucket="media", Key=f"{place}b.jpg", Body=fourth)
    more = infer(model, f"{place}*.jpg", only_new=True, annotate=False, shards=2)
    assert table(more, "pictures.parquet")["source"].to_pylist() == [names[1], names[3]]
    assert json.loads(result(more, "summary.json"))["left_out"] == {str(began.state_details.flow_run_id): 1}

    nothing = infer(model, f"{place}*.jpg", only_new=True)
    run = nothing.state_details.flow_run_id
    assert (nothing.type.name, nothing.name) == ("COMPLETED", "Completed")
    assert f"Nothing new for {model} version 1: 3 inputs left out, done by run" in str(nothing.message)
    for bucket in ("predictions", "runs"):
        assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{run}/")

    ObjectStore("predictions").delete(*ObjectStore("predictions").keys(f"{more.state_details.flow_run_id}/"))
    after = infer(model, f"{place}*.jpg", only_new=True, annotate=False)
    assert table(after, "pictures.parquet")["source"].to_pylist() == [names[1], names[3]]
