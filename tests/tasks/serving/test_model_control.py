"""The control plane against a real tritonserver whose repository is in a real object store."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any, Self

import boto3
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from tasks.parameters import ServingParams
from tasks.serving.grpc_client import smoke_test
from tasks.serving.http_client import ServingError
from tasks.serving.model_control import list_served_versions, load_aside, load_versions, unload
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_config import model_config
from tasks.serving.triton_names import candidate_name
from tasks.settings import Settings
from tests.tasks.serving.graphs import constant_graph, rows, upload_code
from tests.waiting import eventually

SIZES = {1: 64, 2: 96}
DIGESTS: dict[int, str] = {}  # of the graphs that lie in the repository, by version
KEY = "triton-access-key"
NAME = "serving-test"
PARAMS = ServingParams()

pytestmark = pytest.mark.usefixtures("stack")


def served(version: int, image_size: int | None = None) -> ServedModel:
    size = SIZES.get(version, 64) if image_size is None else image_size
    return ServedModel(
        name=NAME,
        version=version,
        task="detect",
        image_size=size,
        class_names=('a "b"', "c\nd"),
        run_id=f"run-{version}",
        digest=DIGESTS.get(version, ""),
    )


@pytest.fixture(scope="module")
def graphs() -> dict[int, bytes]:
    """Two graphs of different image size, which find nothing."""
    return {version: constant_graph(size, {"detections": rows()}) for version, size in SIZES.items()}


def put(version: int, *, graph: bytes | None, entry: str = NAME) -> None:
    if graph is not None:
        boto3.client("s3").put_object(Bucket="models", Key=f"{entry}/{version}/model.onnx", Body=graph)
        DIGESTS[version] = hashlib.sha256(graph).hexdigest()
    upload_code(f"{entry}/{version}")


@pytest.fixture(scope="module")
def repository(stack: object, graphs: dict[int, bytes]) -> Iterator[None]:  # noqa: ARG001
    """Versions 1 and 2 in the repository; nothing of them is served at the end."""
    for version, graph in graphs.items():
        put(version, graph=graph)
    yield
    remove(NAME)


def remove(entry: str) -> None:
    unload.fn(entry)
    for item in boto3.client("s3").list_objects_v2(Bucket="models", Prefix=f"{entry}/").get("Contents", []):
        boto3.client("s3").delete_object(Bucket="models", Key=item["Key"])


@pytest.fixture
def aside(repository: None) -> Iterator[str]:  # noqa: ARG001
    """The name under which a version is tried; nothing is there at the end."""
    yield candidate_name(NAME)
    remove(candidate_name(NAME))


@pytest.fixture
def old(repository: None) -> ServedModel:  # noqa: ARG001
    """Version 1, serving, alone; a test that finds it so leaves it to the next."""
    if list_served_versions(NAME) != [served(1)]:
        load_versions.fn(NAME, [served(1)], PARAMS, 1)
    return served(1)


def ask(version: int, shape: tuple[int, ...]) -> Any:
    tensor = triton_grpc.InferInput("images", list(shape), "UINT8")
    tensor.set_data_from_numpy(np.zeros(shape, np.uint8))
    with triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client:
        return client.infer(NAME, [tensor], str(version), client_timeout=30).as_numpy("detections")


class Traffic:
    """Requests to version 1, each a moment after the last answer, until the block is left and one has its answer."""

    def __enter__(self) -> Self:
        self.answered, self.failures = 0, list[str]()
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            try:
                ask(1, (1, 64, 64, 3))
                self.answered += 1
            except InferenceServerException as error:
                self.failures.append(str(error))

    def __exit__(self, *_: object) -> None:
        try:
            eventually(lambda: self.answered or self.failures, "an answer")
        finally:
            self._stop.set()
            self._thread.join()


def test_two_versions_of_different_image_size_answer_side_by_side(old: ServedModel) -> None:
    new = served(2)
    with Traffic() as traffic:
        load_versions.fn(NAME, [old, new], PARAMS, 2)
    assert list_served_versions(NAME) == [old, new]
    for model in (old, new):
        smoke_test.fn(model)
    assert ask(2, (3, 96, 96, 3)).shape == (3, 300, 6)
    assert traffic.answered > 0
    assert not traffic.failures


def test_the_old_version_is_dropped_when_only_the_new_one_is_named(old: ServedModel) -> None:
    load_versions.fn(NAME, [old, served(2)], PARAMS, 2)
    load_versions.fn(NAME, [served(2)], PARAMS, 2)
    assert list_served_versions(NAME) == [served(2)]


@pytest.mark.parametrize(
    ("graph", "size", "reason"),
    [
        (b"no graph at all", 64, "its model.onnx does not load"),
        (None, 64, "has no model.onnx"),
        ("graph of version 2", 64, "the config says images of 64 x 64 x 3, the graph takes"),
    ],
)
def test_a_broken_version_is_refused_with_its_reason_and_the_old_one_serves_on(
    old: ServedModel, aside: str, graphs: dict[int, bytes], graph: bytes | str | None, size: int, reason: str
) -> None:
    """Tried aside, as each new version is."""
    put(3, graph=graphs[2] if isinstance(graph, str) else graph, entry=aside)
    candidate = replace(served(3, size), aside=aside)
    with Traffic() as traffic, pytest.raises(ServingError, match=reason) as refusal:
        load_aside.fn(candidate, PARAMS)
    assert "\n" not in str(refusal.value)
    assert traffic.answered > 0
    assert not traffic.failures
    assert list_served_versions(NAME) == [old]


def test_a_version_without_a_folder_is_refused(old: ServedModel) -> None:
    """Triton itself calls such a load a success."""
    with pytest.raises(ServingError, match=r"found no \[9\] in its repository"):
        load_versions.fn(NAME, [old, served(9)], PARAMS, 1)
    smoke_test.fn(old)


def test_a_model_without_a_folder_is_refused() -> None:
    stranger = ServedModel(name="no-such-model", version=1, task="detect", image_size=64, class_names=(), run_id="run")
    with pytest.raises(ServingError, match="could not load no-such-model"):
        load_versions.fn("no-such-model", [stranger], PARAMS, 1)
    assert list_served_versions("no-such-model") == []


@pytest.mark.parametrize("shape", [(1, 96, 96, 3), (2, 64, 32, 3), (1, 1, 1, 3)])
def test_a_wrong_shape_fails_alone_and_says_what_is_expected(old: ServedModel, shape: tuple[int, ...]) -> None:
    with Traffic() as traffic, pytest.raises(InferenceServerException, match="expected images of 64 x 64 pixels"):
        ask(old.version, shape)
    assert traffic.answered > 0
    assert not traffic.failures


def test_the_smoke_test_names_the_version_that_does_not_answer(old: ServedModel) -> None:
    with pytest.raises(ServingError, match=f"does not serve {NAME} version 2: it was started anew"):
        smoke_test.fn(served(2))
    with pytest.raises(ServingError, match=f"version {old.version} refused a test image: expected images of 64"):
        smoke_test.fn(served(1, 128))


def test_an_unloaded_model_is_gone_and_unloading_it_again_is_harmless(old: ServedModel) -> None:
    unload.fn(old.name)
    assert list_served_versions(old.name) == []
    unload.fn(old.name)


@pytest.mark.parametrize("headers", [{}, {KEY: "wrong"}])
@pytest.mark.parametrize("path", ["models/x/load", "models/x/unload", "index"])
def test_the_load_api_refuses_calls_without_the_key_over_http(path: str, headers: dict[str, str]) -> None:
    connection = HTTPConnection(Settings().triton_http_url, timeout=10)
    connection.request("POST", f"/v2/repository/{path}", body="{}", headers=headers)
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize("headers", [{}, {KEY: "wrong"}, {f"triton-grpc-protocol-{KEY}": "wrong"}])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, headers: client.load_model(
            NAME, headers=headers, config=json.dumps(model_config([served(1)], PARAMS, 1))
        ),
        lambda client, headers: client.unload_model(NAME, headers=headers),
        lambda client, headers: client.get_model_repository_index(headers=headers),
        lambda client, headers: client.get_system_shared_memory_status(headers=headers),
    ],
)
def test_the_load_api_refuses_calls_without_the_key_over_grpc(
    call: Callable[[Any, dict[str, str]], object], headers: dict[str, str]
) -> None:
    with (
        triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client,
        pytest.raises(InferenceServerException, match="restricted"),
    ):
        call(client, headers)


def test_a_wrong_key_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_TRITON_KEY", "wrong")
    with pytest.raises(ServingError, match=r"restricted.*Set STUDIO_TRITON_KEY"):
        load_versions.fn(NAME, [served(1)], PARAMS, 1)


def test_a_server_that_is_down_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_HTTP_URL", "127.0.0.1:9")
    monkeypatch.setenv("TRITON_GRPC_URL", "127.0.0.1:9")
    calls: list[Callable[[], object]] = [
        lambda: load_versions.fn(NAME, [served(1)], PARAMS, 1),
        lambda: list_served_versions(NAME),
        lambda: smoke_test.fn(served(1)),
        lambda: unload.fn(NAME),
    ]
    for call in calls:
        with pytest.raises(ServingError, match=r"127.0.0.1:9 \(TRITON_(HTTP|GRPC)_URL\).*`studio status`.*`studio up`"):
            call()
