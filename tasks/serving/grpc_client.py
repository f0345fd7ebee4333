"""One request to a version over gRPC, as clients send it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tasks.orchestration.step import step
from tasks.serving.http_client import CALL_TIMEOUT_S, ServingError, TritonUnreachableError, error_reason
from tasks.serving.served_model import ServedModel
from tasks.serving.servers import current_server, setting_of
from tasks.serving.task_outputs import output_shapes
from tasks.serving.triton_config import INPUT
from tasks.vision.geometry import PAD_VALUE, Floats, Rgb

INFER_TIMEOUT_S = 60.0


class VersionNotLoadedError(ServingError):
    """A version that was loaded is not there any more."""

    transient = True


@contextmanager
def connection() -> Iterator[triton.InferenceServerClient]:
    """Yield a client of the current server, which threads may share."""
    with triton.InferenceServerClient(current_server().grpc) as client:
        yield client


def infer_one(
    model: ServedModel, square: Rgb, client: triton.InferenceServerClient | None = None
) -> Mapping[str, Floats]:
    """Return the outputs of a version for one [S, S, 3] image by name, without their first dimension.

    `client` is one of `connection`; without it, it makes one of its own.

    Raises:
        ServingError: Triton refuses the image, or gives outputs that a model of this task does not have.
        VersionNotLoadedError: Triton has no such version.
        TritonUnreachableError: Triton does not answer.
    """
    address = current_server().grpc
    shapes = output_shapes(model.task, {})
    tensor = triton.InferInput(INPUT, [1, *square.shape], "UINT8").set_data_from_numpy(square[None])
    try:
        with nullcontext(client) if client else connection() as channel:
            response = channel.infer(model.entry, [tensor], str(model.version), client_timeout=INFER_TIMEOUT_S)
            outputs = {name: response.as_numpy(name) for name in shapes}
    except InferenceServerException as error:
        if not _is_live(address):
            raise TritonUnreachableError(
                setting_of("TRITON_GRPC_URL"), address, "answer a test image", error
            ) from error
        if "unknown model" in error_reason(error):
            raise VersionNotLoadedError(
                f"Triton at {address} does not serve {model.entry} version {model.version}: it was started anew in the "
                "meantime, or another run took it away. Run it again."
            ) from error
        version = f"{model.name} version {model.version}"
        raise ServingError(f"{version} refused a test image: {error_reason(error)}") from error
    for name, shape in shapes.items():
        _require_output(model, name, shape, outputs[name])
    return {name: values[0] for name, values in outputs.items()}


def _require_output(model: ServedModel, name: str, shape: tuple[int, ...], output: Floats | None) -> None:
    expected = f"{model.name} version {model.version}: expected output {name} of finite float32 {[1, *shape]}"
    if output is None:
        raise ServingError(f"{expected}, found none")
    fits = len(output.shape) == len(shape) + 1 and all(
        size in (-1, other) for size, other in zip((1, *shape), output.shape, strict=True)
    )
    if not fits or output.dtype != np.float32 or not np.isfinite(output).all():
        raise ServingError(f"{expected}, found {output.dtype} {list(output.shape)}")


def _is_live(address: str) -> bool:
    """Return whether Triton answers: it has one status for a model that is not loaded and for no server."""
    try:
        with triton.InferenceServerClient(address) as client:
            return bool(client.is_server_live(client_timeout=CALL_TIMEOUT_S))
    except InferenceServerException:
        return False


@step
def smoke_test(model: ServedModel) -> None:
    """Send this version one grey image; raises ServingError unless its outputs are those of its task."""
    infer_one(model, np.full((model.image_size, model.image_size, 3), PAD_VALUE, np.uint8))
