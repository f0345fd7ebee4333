"""Batch inference as steps of a flow."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prefect import get_run_logger

from tasks.inference.pipeline import run_chunks
from tasks.inference.postprocess import class_thresholds
from tasks.inference.predictor import MediaReader, Predictor, max_in_flight
from tasks.inference.result_writer import ProgressCallback, ResultWriter, TrackFunction
from tasks.inference.triton_client import ParameterError, TritonClient, VersionUnloadedError
from tasks.inference.work_items import CompletedChunk
from tasks.inference.work_plan import Chunk
from tasks.media.malloc import tune_malloc
from tasks.orchestration.step import step
from tasks.parameters import InferenceParams
from tasks.serving.served_model import ServedModel
from tasks.settings import Settings
from tasks.vision.detections import Detections


@dataclass(frozen=True)
class WorkerIO:
    """What a worker needs besides Triton: where media come from, where parts go, and who is told how far it is.

    `follow` makes what follows the objects of one video, where that is wanted.
    """

    media: MediaReader
    commit: Callable[[CompletedChunk], None]
    told: ProgressCallback
    follow: Callable[[], TrackFunction] | None = None


@step
def run_chunks_on_triton(
    model: ServedModel,
    params: InferenceParams,
    chunks: Iterable[Chunk],
    folder: Path,
    outside: WorkerIO,
) -> None:
    """Work through chunks below `folder`, and commit each when it is done; ends where the version is served no longer.

    Raises InferenceError where Triton stays away, and ParameterError.
    """
    validate_params(model, params)
    tune_malloc()
    keeper = ResultWriter(model, outside.follow and _drop_weak(outside.follow, model, params), outside.told)
    with closing(TritonClient(Settings().triton_grpc_url, model, max_in_flight(params))) as client:
        try:
            with closing(
                run_chunks(chunks, outside.media, Predictor(client, outside.media, params), keeper, folder)
            ) as parts:
                for made in parts:
                    outside.commit(made)
        except VersionUnloadedError as gone:
            get_run_logger().warning("%s: going on with the champion", gone)


def validate_params(model: ServedModel, params: InferenceParams) -> None:
    """Raise ParameterError for parameters that mean nothing for this model."""
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
    follow: Callable[[], TrackFunction], model: ServedModel, params: InferenceParams
) -> Callable[[], TrackFunction]:
    """Follow with weak detections, and drop those below the threshold of their class afterwards."""
    thresholds = class_thresholds(model.class_names, params)

    def begin() -> TrackFunction:
        followed = follow()

        def sure(found: Detections) -> Detections:
            found = followed(found)
            return found.select(found.confidence >= thresholds[np.clip(found.class_id, 0, len(thresholds) - 1)])

        return sure

    return begin
