"""What a version answers, asked over gRPC as clients ask."""

from collections.abc import Mapping

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tasks.orchestration.step import step
from tasks.serving.http_client import CALL_TIMEOUT_S, ServingError, error_reason, unreachable_error
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_config import INPUT, OUTPUTS
from tasks.settings import Settings
from tasks.vision.geometry import PAD_VALUE, Floats, Rgb

INFER_TIMEOUT_S = 60.0


def infer_one(model: ServedModel, square: Rgb) -> Mapping[str, Floats]:
    """What a version answers for one [S, S, 3] image: its outputs by name, without their first dimension.

    Raises ServingError with Triton's reason, and for an answer that is not what a model of its task gives.
    """
    address = Settings().triton_grpc_url
    tensor = triton.InferInput(INPUT, [1, *square.shape], "UINT8").set_data_from_numpy(square[None])
    try:
        with triton.InferenceServerClient(address) as client:
            answer = client.infer(model.entry, [tensor], str(model.version), client_timeout=INFER_TIMEOUT_S)
            found = {name: answer.as_numpy(name) for name in OUTPUTS[model.task]}
    except InferenceServerException as error:
        if not _is_there(address):
            raise unreachable_error("TRITON_GRPC_URL", address, "answer a test image", error) from error
        if "unknown model" in error_reason(error):
            raise ServingError(
                f"Triton at {address} does not serve {model.entry} version {model.version}: it was started anew in the "
                "meantime, or another run took it away. Run it again."
            ) from error
        raise ServingError(
            f"{model.name} version {model.version} refused a test image: {error_reason(error)}"
        ) from error
    for name, sizes in OUTPUTS[model.task].items():
        _require(model, name, sizes, found[name])
    return {name: values[0] for name, values in found.items()}


def _require(model: ServedModel, name: str, sizes: tuple[int, ...], found: Floats | None) -> None:
    expected = f"{model.name} version {model.version}: expected output {name} of finite float32 {[1, *sizes]}"
    if found is None:
        raise ServingError(f"{expected}, found none")
    fits = len(found.shape) == len(sizes) + 1 and all(
        size in (-1, other) for size, other in zip((1, *sizes), found.shape, strict=True)
    )
    if not fits or found.dtype != np.float32 or not np.isfinite(found).all():
        raise ServingError(f"{expected}, found {found.dtype} {list(found.shape)}")


def _is_there(address: str) -> bool:
    """Triton gives the same status for a model that is not loaded as gRPC for no server."""
    try:
        with triton.InferenceServerClient(address) as client:
            return bool(client.is_server_live(client_timeout=CALL_TIMEOUT_S))
    except InferenceServerException:
        return False


@step
def smoke_test(model: ServedModel) -> None:
    """Ask this version for one grey image; raises ServingError unless what a model of its task gives comes back."""
    infer_one(model, np.full((model.image_size, model.image_size, 3), PAD_VALUE, np.uint8))
