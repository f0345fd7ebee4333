"""The code that runs a graph, in a real tritonserver: what each task answers, and what is refused."""

import hashlib
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import boto3
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from numpy.typing import NDArray
from onnx import parser

from tasks.parameters import ServingParams
from tasks.serving.http_client import ServingError
from tasks.serving.model_control import list_served_versions, load_versions, unload
from tasks.serving.served_model import PRECISION_GRAPHS, ServedModel
from tasks.serving.triton_config import model_config
from tasks.settings import Settings
from tests.tasks.serving.graphs import upload_code

NAME = "graph-test"
SIZE = 32
Sizes = dict[str, tuple[int, ...]]
DETECTIONS: Sizes = {"detections": (300, 6)}
TASKS: dict[str, Sizes] = {
    "detect": DETECTIONS,
    "segment": {**DETECTIONS, "coefficients": (300, 5), "prototypes": (5, SIZE // 4, SIZE // 4)},
    "pose": {**DETECTIONS, "keypoints": (300, 7, 3)},
    "obb": {**DETECTIONS, "rotated": (300, 5)},
    "classify": {"scores": (3,)},
}


def graph(sizes: Sizes) -> bytes:
    """A graph whose outputs have these sizes after N; every number is the mean of its image plus the output's place."""
    heads, steps = [], []
    for place, (name, dims) in enumerate(sizes.items()):
        heads.append(f"float[N,{','.join(map(str, dims))}] {name}")
        steps.append(f"""
            one{place} = Constant <value_ints = {[-1] + [1] * len(dims)}> ()
            all{place} = Constant <value_ints = {[1, *dims]}> ()
            place{place} = Constant <value = float {{{float(place)}}}> ()
            column{place} = Reshape (mean, one{place})
            sum{place} = Add (column{place}, place{place})
            {name} = Expand (sum{place}, all{place})""")
    text = f"""
        <ir_version: 9, opset_import: ["" : 18]>
        means (uint8[N,{SIZE},{SIZE},3] images) => ({", ".join(heads)}) {{
            real = Cast <to = 1> (images)
            axes = Constant <value_ints = [1, 2, 3]> ()
            mean = ReduceMean <keepdims = 0> (real, axes)
            {"".join(steps)}
        }}"""
    model = parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def images(*values: int) -> NDArray[np.uint8]:
    return np.stack([np.full((SIZE, SIZE, 3), value, np.uint8) for value in values])


def expected(sizes: Sizes, *values: int) -> dict[str, NDArray[np.float32]]:
    return {
        name: np.stack([np.full(dims, value + place, np.float32) for value in values])
        for place, (name, dims) in enumerate(sizes.items())
    }


@pytest.fixture
def repository(stack: object) -> Iterator[Any]:  # noqa: ARG001
    """The object store; what the test put under the model's name is removed again."""
    store = boto3.client("s3")
    yield store
    unload.fn(NAME)
    for item in store.list_objects_v2(Bucket="models", Prefix=f"{NAME}/").get("Contents", []):
        store.delete_object(Bucket="models", Key=item["Key"])


def described(task: str, content: bytes, version: int = 1) -> ServedModel:
    """What a deployment says of a graph."""
    return ServedModel(
        name=NAME,
        version=version,
        task=task,
        image_size=SIZE,
        class_names=("a", "b", "c"),
        run_id="run",
        digest=hashlib.sha256(content).hexdigest(),
    )


def publish(store: Any, task: str, sizes: Sizes, version: int = 1, **changes: Any) -> ServedModel:
    content = graph(sizes)
    store.put_object(Bucket="models", Key=f"{NAME}/{version}/model.onnx", Body=content)
    upload_code(f"{NAME}/{version}")
    return replace(described(task, content, version), **changes)


def ask(client: Any, shown: NDArray[np.uint8], names: list[str], version: int = 1) -> dict[str, Any]:
    tensor = triton_grpc.InferInput("images", list(shown.shape), "UINT8").set_data_from_numpy(shown)
    wanted = [triton_grpc.InferRequestedOutput(name) for name in names]
    answer = client.infer(NAME, [tensor], str(version), outputs=wanted or None, client_timeout=30)
    return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_answers_with_its_outputs(repository: Any, task: str) -> None:
    model = publish(repository, task, TASKS[task])
    load_versions.fn(NAME, [model], ServingParams(), 1)
    assert list_served_versions(NAME) == [model]
    with triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client:
        for values in [(7,), (1, 200, 90)]:
            answer = ask(client, images(*values), [])
            assert set(answer) == set(TASKS[task])
            for name, numbers in expected(TASKS[task], *values).items():
                np.testing.assert_array_equal(answer[name], numbers)


def test_only_the_requested_outputs_are_sent(repository: Any) -> None:
    load_versions.fn(NAME, [publish(repository, "segment", TASKS["segment"])], ServingParams(), 1)
    with triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client:
        assert set(ask(client, images(3), ["detections"])) == {"detections"}


def test_requests_side_by_side_each_get_their_own_answer(repository: Any) -> None:
    """Triton joins them into batches: a request of three images must not get the neighbours' numbers."""
    load_versions.fn(NAME, [publish(repository, "pose", TASKS["pose"])], ServingParams(), 1)

    def check(first: int) -> None:
        values = [first, first + 100, first + 50][: 1 + first % 3]
        answer = ask(client, images(*values), [])
        for name, numbers in expected(TASKS["pose"], *values).items():
            np.testing.assert_array_equal(answer[name], numbers)

    with triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(120)))


OTHER_OUTPUTS = r"expected the outputs \['detections'\], found \['boxes'\]"
OTHER_SIZES = "expected detections as 1 x 300 x 6 float32, found"


@pytest.mark.parametrize(
    ("sizes", "reason"), [({"boxes": (300, 6)}, OTHER_OUTPUTS), ({"detections": (100, 6)}, OTHER_SIZES)]
)
def test_a_graph_that_its_task_does_not_have_is_refused_with_the_reason(
    repository: Any, sizes: Sizes, reason: str
) -> None:
    """By what they are called, and by their sizes; which those are of each task is asked of the code itself below."""
    with pytest.raises(ServingError, match=reason):
        load_versions.fn(NAME, [publish(repository, "detect", sizes)], ServingParams(), 1)


def test_a_graph_that_is_not_the_one_deployed_is_refused(repository: Any) -> None:
    model = publish(repository, "detect", TASKS["detect"], digest="0" * 64)
    found = hashlib.sha256(graph(TASKS["detect"])).hexdigest()
    with pytest.raises(ServingError, match=rf"SHA-256 {'0' * 64}, found {found}.*deploy the new version"):
        load_versions.fn(NAME, [model], ServingParams(), 1)


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_arithmetic_that_the_cpu_may_lack_is_served_anyway(repository: Any, precision: str) -> None:
    model = publish(repository, "obb", TASKS["obb"], precision=precision)
    load_versions.fn(NAME, [model], ServingParams(threads=1), 1)
    assert list_served_versions(NAME) == [model]
    with triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client:
        for name, numbers in expected(TASKS["obb"], 64).items():
            np.testing.assert_allclose(ask(client, images(64), [])[name], numbers, rtol=0.01)


def load_as_it_is(config: dict[str, Any]) -> None:
    key = {"triton-access-key": Settings().studio_triton_key.get_secret_value()}
    with triton_http.InferenceServerClient(Settings().triton_http_url) as client:
        client.load_model(NAME, headers=key, config=json.dumps(config))


def test_triton_takes_every_field_of_the_onnxruntime_config(repository: Any) -> None:
    """That backend is not in the server of these tests: the Python backend is given its config, and is warmed up."""
    config = model_config(
        [publish(repository, "detect", TASKS["detect"])], ServingParams(backend="onnxruntime"), 1, "2"
    )
    load_as_it_is({**config, "backend": "python"})
    with triton_http.InferenceServerClient(Settings().triton_http_url) as client:
        served = client.get_model_config(NAME, "1")
        statistics = client.get_inference_statistics(NAME, "1")["model_stats"][0]
    taken = served["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
    assert taken == config["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
    assert {int(row["batch_size"]) for row in served["model_warmup"]} == {1, 16}
    assert int(statistics["inference_count"]) == 1 + 16
    with pytest.raises(ServingError, match="onnxruntime"):
        load_versions.fn(
            NAME, [publish(repository, "detect", TASKS["detect"])], ServingParams(backend="onnxruntime"), 1
        )


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module itself, for what Triton does not run here: without OpenVINO, or with batches that the test makes."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    for name in ("model", "runtimes", "cuda_runtime"):
        monkeypatch.delitem(sys.modules, f"model_repository.graph.{name}", raising=False)
    return importlib.import_module("model_repository.graph.model")


def answers(runtime: Any, *batch: NDArray[np.uint8]) -> list[Any]:
    """What each request of a batch gets."""
    found: dict[int, Any] = {}
    runtime.infer(batch, found.__setitem__)
    return [found[index] for index in range(len(batch))]


CPU = "CPUExecutionProvider"
RUNTIMES = [("runtimes.OnnxRuntime", ()), ("cuda_runtime.BatchedOnnxRuntime", (CPU, 16))]


def open_runtime(name: str, *arguments: Any) -> Any:
    return pkgutil.resolve_name(f"model_repository.graph.{name}")(*arguments)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(("name", "more"), RUNTIMES)
def test_onnx_runtime_answers_a_batch_request_by_request(tmp_path: Path, name: str, more: tuple[Any, ...]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(TASKS["segment"]))
    runtime = open_runtime(name, path, TASKS["segment"], 1, *more)
    found = answers(runtime, images(5), images(9, 1), images(2))
    for answer, values in zip(found, [(5,), (9, 1), (2,)], strict=True):
        assert set(answer) == set(TASKS["segment"])
        for output, numbers in expected(TASKS["segment"], *values).items():
            np.testing.assert_array_equal(answer[output], numbers)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(("name", "more"), RUNTIMES)
def test_onnx_runtime_fails_only_the_request_at_fault(tmp_path: Path, name: str, more: tuple[Any, ...]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(TASKS["detect"]))
    runtime = open_runtime(name, path, TASKS["detect"], 1, *more)
    good, bad = answers(runtime, images(5), images(9)[:, :8])
    np.testing.assert_array_equal(good["detections"], expected(TASKS["detect"], 5)["detections"])
    assert re.search("Got invalid dimensions", str(bad))


@pytest.mark.usefixtures("code")
def test_a_session_of_a_gpu_sees_one_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA plans anew for each other number, which takes a hundred times as long as the images."""
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(TASKS["detect"]))
    runtime = open_runtime("cuda_runtime.BatchedOnnxRuntime", path, TASKS["detect"], 1, CPU, 16)
    seen = list[tuple[Any, int]]()
    run = runtime.run_session

    def watched(session: Any, shown: NDArray[np.uint8]) -> Any:
        seen.append((session, len(shown)))
        return run(session, shown)

    monkeypatch.setattr(runtime, "run_session", watched)
    runs = {1: [1], 2: [1, 1], 3: [4], 8: [4, 4], 9: [16], 40: [16, 16, 4, 4]}
    for count, sizes in runs.items():
        seen.clear()
        (found,) = answers(runtime, images(*range(count)))
        np.testing.assert_array_equal(found["detections"], expected(TASKS["detect"], *range(count))["detections"])
        assert seen == [(runtime.sessions[size], size) for size in sizes]


@pytest.mark.usefixtures("code")
def test_a_batch_that_does_not_fit_a_gpu_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(TASKS["detect"]))
    kind = pkgutil.resolve_name("model_repository.graph.cuda_runtime.BatchedOnnxRuntime")
    monkeypatch.setattr(kind, "run_session", lambda *_: MemoryError("no memory"))
    with pytest.raises(RuntimeError, match=r"serving\.max_batch_size"):
        kind(path, TASKS["detect"], 1, CPU, 16)


@pytest.mark.parametrize(
    ("task", "sizes", "reason"),
    [
        (
            "segment",
            TASKS["detect"],
            r"expected the outputs \['coefficients', 'detections', 'prototypes'\], found \['det",
        ),
        ("detect", TASKS["obb"], r"expected the outputs \['detections'\], found \['detections', 'rotated'\]"),
        ("detect", {"boxes": (300, 6)}, OTHER_OUTPUTS),
        ("detect", {"detections": (100, 6)}, OTHER_SIZES),
        ("detect", {"detections": (300,)}, OTHER_SIZES),
        ("classify", {"scores": (4,)}, "expected scores as 1 x 3 float32, found"),
        ("segment", {**TASKS["segment"], "prototypes": (6, 8, 8)}, "expected prototypes as 1 x 5 x 8 x 8 float32"),
        ("segment", {**TASKS["segment"], "prototypes": (5, 16, 16)}, "expected prototypes as 1 x 5 x 8 x 8 float32"),
        ("pose", {**DETECTIONS, "keypoints": (300, 7, 2)}, "expected keypoints as 1 x 300 x 7 x 3 float32"),
    ],
)
def test_a_graph_of_another_task_is_refused(code: Any, tmp_path: Path, task: str, sizes: Sizes, reason: str) -> None:
    content = graph(sizes)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(content)
    config = model_config([described(task, content)], ServingParams(), 1)
    given = {"model_repository": str(tmp_path), "model_instance_kind": "CPU"}
    with pytest.raises(ValueError, match=reason):
        code.TritonPythonModel()._load(given, config, "1")


FINAL = 1


class Response:
    """Its outputs by name, or its error."""

    def __init__(self, tensors: tuple[tuple[str, Any], ...] = (), error: str | None = None) -> None:
        self.outputs, self.error = dict(tensors), error


class Request:
    """One request for `detections`, as Triton hands it over."""

    def __init__(self, shown: NDArray[np.uint8]) -> None:
        self.shown, self.answers = shown, list[Response]()

    def get_response_sender(self) -> "Request":
        return self

    def send(self, response: Response, flags: int) -> None:
        assert flags == FINAL
        self.answers.append(response)

    @property
    def answer(self) -> Response:
        """The only one that it got."""
        (answer,) = self.answers
        return answer

    def as_numpy(self) -> NDArray[np.uint8]:
        return self.shown

    def requested_output_names(self) -> list[str]:
        return ["detections"]


class Log:
    """Triton's log."""

    warnings: ClassVar[list[str]] = []

    @classmethod
    def log_warn(cls, line: str) -> None:
        """Take a warning."""
        cls.warnings.append(line)

    @staticmethod
    def log_error(_: str) -> None:
        """Take a line."""


@pytest.fixture
def model(code: Any, tmp_path: Path) -> Any:
    """A loaded model outside Triton: the batches that Triton makes of requests are made here."""
    own = code.pb_utils
    own.Logger, own.InferenceResponse, own.TritonError = Log, Response, str
    own.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
    own.Tensor, own.get_input_tensor_by_name = lambda *pair: pair, lambda request, _: request
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(TASKS["detect"]))
    model = code.TritonPythonModel()
    model.side, model.runtime = SIZE, code.OnnxRuntime(path, TASKS["detect"], 1)
    return model


def test_a_precision_that_the_machine_lacks_is_said_or_refused(model: Any) -> None:
    """A version that a person has asked for runs in f32, one that is tried does not run: it would be f32 again."""
    Log.warnings.clear()
    model._check_precision("bf16", exact=True)
    model.runtime.fallback = "this CPU has no bf16 arithmetic"
    with pytest.raises(ValueError, match="it would run in f32 and not in bf16: this CPU has no bf16"):
        model._check_precision("bf16", exact=True)
    assert Log.warnings == []
    model._check_precision("bf16", exact=False)
    assert Log.warnings == ["f32 is used and not bf16: this CPU has no bf16 arithmetic"]


def test_files_of_precisions_are_those_that_deployments_write(code: Any) -> None:
    assert code.GRAPHS == PRECISION_GRAPHS


def test_a_request_without_images_is_refused_alone(model: Any) -> None:
    empty, good = Request(images(1)[:0]), Request(images(5))
    model.execute([empty, good])
    assert empty.answer.error == "expected at least one image in a request, found none: send images, or no request"
    np.testing.assert_array_equal(good.answer.outputs["detections"], expected(TASKS["detect"], 5)["detections"])


def test_what_a_runtime_raises_becomes_the_errors_of_those_that_wait(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was refused before keeps its own reason, one that was answered its answer."""

    def fail(batch: Sequence[NDArray[np.uint8]], done: Callable[[int, Any], None]) -> None:
        done(0, {"detections": batch[0]})
        raise MemoryError("no room for the batch")

    monkeypatch.setattr(model.runtime, "infer", fail)
    requests = [Request(images(5)), Request(images(9)[:, :8]), Request(images(2, 3))]
    model.execute(requests)
    assert [request.answer.error for request in requests[::2]] == [None, "no room for the batch"]
    assert str(requests[1].answer.error).startswith(f"expected images of {SIZE} x {SIZE} pixels")


def test_an_answer_that_cannot_be_handed_over_is_an_error_and_not_silence(
    code: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError("no shared memory")

    monkeypatch.setattr(code.pb_utils, "Tensor", full)
    request = Request(images(5))
    model.execute([request])
    assert request.answer.error == "no shared memory"


def test_a_request_is_answered_once_though_its_runtime_breaks_off(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had begun comes in when the rest has failed."""
    late: list[Callable[[], None]] = []

    def break_off(batch: Sequence[NDArray[np.uint8]], done: Callable[[int, Any], None]) -> None:
        late.append(lambda: done(0, {"detections": batch[0]}))
        raise RuntimeError("no more room")

    monkeypatch.setattr(model.runtime, "infer", break_off)
    requests = [Request(images(5)), Request(images(9))]
    model.execute(requests)
    late[0]()
    assert [request.answer.error for request in requests] == ["no more room"] * 2
