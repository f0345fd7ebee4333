"""A new version at work beside the champion, for a while."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from prefect import get_run_logger

from tasks.errors import StudioError
from tasks.orchestration.step import step
from tasks.parameters import CanaryParams
from tasks.serving.canary_rules import CanaryProgress, VersionStats
from tasks.serving.canary_stats import CanaryStatsReader
from tasks.serving.model_control import request_stats
from tasks.serving.served_model import ServedModel

POLL_INTERVAL_S = 2.0


@step
def run_canary(
    champion: ServedModel,
    challenger: ServedModel,
    params: CanaryParams,
    reader: CanaryStatsReader,
    require_ownership: Callable[[], None],
) -> tuple[VersionStats, VersionStats]:
    """Wait until the canary is over; returns what the champion and the challenger did in it.

    `require_ownership` is called while it waits, and may raise.

    Raises:
        ServingError: Triton does not give its counts.
    """
    requests_before = [request_stats(model) for model in (champion, challenger)]
    progress = CanaryProgress(champion.version, challenger.version, params, time.monotonic())
    while not progress.update(_read(reader), time.monotonic()):
        if line := progress.log_line:
            get_run_logger().info(line)
        require_ownership()
        time.sleep(POLL_INTERVAL_S)
    of_champion, of_challenger = (
        replace(stats, requests=request_stats(model).since(before))
        for model, stats, before in zip((champion, challenger), progress.stats, requests_before, strict=True)
    )
    return of_champion, of_challenger


def _read(reader: CanaryStatsReader) -> Mapping[int, VersionStats]:
    try:
        return reader.read()
    except StudioError as error:  # a store that is away for a moment ends no canary of hours
        get_run_logger().warning("%s", error)
        return reader.totals
