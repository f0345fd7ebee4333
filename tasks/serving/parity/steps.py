"""The predictions of the served model, for the parity gate, and how fast it gives them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np

from tasks.dataset.validation_sample import ValidationSample
from tasks.media.images import read_image
from tasks.orchestration.step import step
from tasks.serving.grpc_client import connection, infer_one
from tasks.serving.pre_postprocess import postprocess, preprocess
from tasks.serving.served_model import ServedModel
from tasks.vision.geometry import Floats, Letterbox, Rgb
from tasks.vision.predictions import MAX_STORED_MASKS, PredictionStore

CLIENTS = 4  # that ask side by side in a round
ROUND_IMAGES = 16
MIN_ROUNDS = 5

Square = tuple[Rgb, Letterbox]


@dataclass(frozen=True, kw_only=True)
class TimedPredictions:
    """The predictions for the images of a sample, the images a second of each round, and the seconds of all."""

    predictions: PredictionStore
    rates: tuple[float, ...]
    seconds: float


@step
def predict_in_turns(
    models: Sequence[ServedModel], sample: ValidationSample, folder: Path
) -> dict[str, TimedPredictions]:
    """Return by precision how a version answers and how fast, each served under its own name in Triton.

    `CLIENTS` ask side by side. The precisions take turns with each `ROUND_IMAGES` of the sample, so that what else the
    machine does meets all of them; a sample that is too small for `MIN_ROUNDS` is asked again, for its time alone.
    `folder` is new.

    Raises:
        ServingError: Triton does not answer, or refuses an image.
        MediaError: An image cannot be read.
    """
    stores = {model.precision: PredictionStore(folder / model.precision) for model in models}
    rounds: dict[str, list[tuple[int, float]]] = {model.precision: [] for model in models}
    with connection() as client, ThreadPoolExecutor(CLIENTS) as pool:

        def ask(model: ServedModel, squares: Sequence[Square]) -> list[Mapping[str, Floats]]:
            return list(pool.map(lambda square: infer_one(model, square[0], client), squares))

        for number, (squares, is_new) in enumerate(_rounds(sample, models[0].image_size)):
            turn = number % len(models)
            for model in (*models[turn:], *models[:turn]):
                if number == 0:
                    ask(model, squares[:CLIENTS])  # the first answers of a model come later than the others
                began = time.perf_counter()
                answers = ask(model, squares)
                rounds[model.precision].append((len(squares), time.perf_counter() - began))
                if is_new:
                    for outputs, (_, letterbox) in zip(answers, squares, strict=True):
                        found = postprocess(outputs, sample.task, letterbox, masks=MAX_STORED_MASKS)
                        stores[model.precision].add(found)
    return {
        precision: TimedPredictions(
            predictions=stores[precision],
            rates=tuple(images / seconds for images, seconds in took),
            seconds=sum(seconds for _, seconds in took),
        )
        for precision, took in rounds.items()
    }


def _rounds(sample: ValidationSample, image_size: int) -> Iterator[tuple[list[Square], bool]]:
    """Yield the squares of each round, and whether they are asked for the first time."""
    count = -(-len(sample.images) // ROUND_IMAGES)
    new = (chunk.tolist() for chunk in np.array_split(np.arange(len(sample.images)), count))
    endless = cycle(range(len(sample.images)))
    again = (list(islice(endless, ROUND_IMAGES)) for _ in range(MIN_ROUNDS - count))
    for number, numbers in enumerate(chain(new, again)):
        chosen, is_new = [sample.images[at] for at in numbers], number < count
        yield [preprocess(read_image(image.path), sample.task, image_size) for image in chosen], is_new


def predict_served(
    sample: ValidationSample, image_size: int, infer: Callable[[Rgb], Mapping[str, Floats]], folder: Path
) -> PredictionStore:
    """Return the predictions for the images of a sample, stored in the new `folder`.

    `infer` takes [image_size, image_size, 3] squares and returns the outputs, without their first dimension. Raises
    MediaError for an image that cannot be read, and ValueError for outputs that break the contract.
    """
    predictions = PredictionStore(folder)
    for image in sample.images:
        square, letterbox = preprocess(read_image(image.path), sample.task, image_size)
        predictions.add(postprocess(infer(square), sample.task, letterbox, masks=MAX_STORED_MASKS))
    return predictions
