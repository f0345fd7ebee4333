"""Batch inference as steps of a flow."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger

from tasks.inference.pipeline import run_chunks
from tasks.inference.postprocess import class_thresholds, drop_below
from tasks.inference.predictor import MediaReader, Predictor, max_in_flight
from tasks.inference.result_writer import ProgressCallback, ResultWriter, TrackFunction
from tasks.inference.triton_client import ParameterError, TritonClient, VersionUnloadedError
from tasks.inference.work_items import CompletedChunk
from tasks.inference.work_plan import Chunk
from tasks.media.malloc import tune_malloc
from tasks.orchestration.step import step
from tasks.parameters import InferenceParams
from tasks.serving.served_model import ServedModel
from tasks.serving.servers import list_servers


@dataclass(frozen=True, kw_only=True)
class WorkerIO:
    """The inputs and outputs of a worker besides Triton; `new_tracker` makes the tracker of one video, if any."""

    media: MediaReader
    commit: Callable[[CompletedChunk], None]
    on_progress: ProgressCallback
    new_tracker: Callable[[], TrackFunction] | None = None


@step
def run_chunks_on_triton(
    model: ServedModel, params: InferenceParams, chunks: Iterable[Chunk], folder: Path, io: WorkerIO
) -> None:
    """Do chunks below `folder` and commit each when it is done; return early if the version is served no longer.

    Raises:
        ParameterError: The parameters do not fit the model.
        InferenceError: Triton stays away.
    """
    _require_valid(params, model)
    tune_malloc()
    writer = ResultWriter(model, io.new_tracker and _drop_weak(io.new_tracker, model, params), io.on_progress)
    with closing(TritonClient([server.grpc for server in list_servers()], model, max_in_flight(params))) as client:
        try:
            with closing(run_chunks(chunks, io.media, Predictor(client, io.media, params), writer, folder)) as parts:
                for part in parts:
                    io.commit(part)
        except VersionUnloadedError as error:
            get_run_logger().warning("%s: going on with the champion", error)


def _require_valid(params: InferenceParams, model: ServedModel) -> None:
    needless = [name for name, given in {"tiles": params.tiles, "track": params.track}.items() if given]
    if needless and model.task == "classify":
        raise ParameterError(
            f"expected a model that finds objects for inference.{needless[0]}, found {model.name}, which classifies "
            f"whole images; leave {needless[0]} out"
        )
    try:
        class_thresholds(model.class_names, params)
    except ValueError as error:
        raise ParameterError(str(error)) from error


def _drop_weak(
    new_tracker: Callable[[], TrackFunction], model: ServedModel, params: InferenceParams
) -> Callable[[], TrackFunction]:
    """Track with weak detections, and drop those below the threshold of their class afterwards."""
    thresholds = class_thresholds(model.class_names, params)

    def begin() -> TrackFunction:
        tracker = new_tracker()
        return lambda detections: drop_below(tracker(detections), thresholds)

    return begin
