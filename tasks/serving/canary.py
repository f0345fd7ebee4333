"""A new version at work beside the champion, for a while."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from prefect import get_run_logger

from tasks.errors import StudioError
from tasks.orchestration.step import step
from tasks.parameters import CanaryParams
from tasks.serving.canary_rules import VersionStats
from tasks.serving.model_control import request_stats
from tasks.serving.served_model import ServedModel

POLL_INTERVAL_S = 2.0
LOG_INTERVAL_S = 60.0


@step
def run_canary(
    champion: ServedModel,
    challenger: ServedModel,
    params: CanaryParams,
    tallies: Callable[[], Mapping[int, VersionStats]],
    pulse: Callable[[], None],
) -> tuple[VersionStats, VersionStats]:
    """Wait until the trial is over; returns what the champion and the new version did in it.

    `tallies` gives the images and detections of both until now, by version; `pulse` is called while it waits. Raises
    ServingError where Triton does not say what it counted.
    """
    models = champion, challenger
    before = [request_stats(model) for model in models]
    began = told = time.monotonic()
    counted: Mapping[int, VersionStats] = {}
    while True:
        try:
            counted = tallies()
        except StudioError as error:  # a store that is away for a moment ends no trial of hours
            get_run_logger().warning("%s", error)
        both = [counted.get(model.version, VersionStats()) for model in models]
        now = time.monotonic()
        wanted = max(params.images, params.min_images) if params.images else math.inf
        enough = min(answers.images for answers in both) >= wanted
        if enough or now - began >= 60 * params.minutes:
            break
        if now - told >= LOG_INTERVAL_S:
            images = [answers.images for answers in both]
            get_run_logger().info("the champion has answered for %d images, the new version for %d", *images)
            told = now
        pulse()
        time.sleep(POLL_INTERVAL_S)
    asked = [request_stats(model).since(earlier) for model, earlier in zip(models, before, strict=True)]
    answers = [replace(each, requests=requests) for each, requests in zip(both, asked, strict=True)]
    return answers[0], answers[1]
