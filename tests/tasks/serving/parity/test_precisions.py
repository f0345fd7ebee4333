"""Which precision serves."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tasks.parameters import ParityPolicy
from tasks.serving.parity.precisions import PrecisionChoice, PrecisionTrial, answers_alike
from tasks.serving.parity.rules import ParityReport, compare_predictions
from tests.tasks.serving.parity.builders import found, grid, sample, scores

ROUNDS = 5


def parity(agreeing: int = 100, served_map: float = 0.5) -> ParityReport:
    """What 100 detections score of which so many have a partner."""
    sides = [found(*grid(60)), found(*grid(60))], [found(*grid(60)), found(*grid(60 - (100 - agreeing)))]
    return compare_predictions(*sides, sample(2), (scores(0.5), scores(served_map)), ParityPolicy())


def trial(precision: str, rate: float | Sequence[float], report: ParityReport | None = None) -> PrecisionTrial:
    rates = (rate,) * ROUNDS if isinstance(rate, int | float) else tuple(rate)
    return PrecisionTrial(precision=precision, parity=report or parity(), rates=rates)


def test_the_quickest_that_answers_as_the_weights_serves() -> None:
    choice = PrecisionChoice(trials=(trial("f32", 10), trial("bf16", 18), trial("int8", 22)))
    assert choice.chosen.precision == "int8"
    assert choice.judged.passed
    assert [choice.reason(each).split(":")[0] for each in choice.trials] == ["Passed", "Passed", "Serves"]
    assert "1.22 times as quick" in choice.reason(choice.trials[1])


@pytest.mark.parametrize("bad", [parity(agreeing=80), parity(served_map=0.48)], ids=["disagrees", "lost mAP"])
def test_a_quicker_one_that_does_not_answer_as_the_weights_does_not_serve(bad: ParityReport) -> None:
    choice = PrecisionChoice(trials=(trial("f32", 10), trial("bf16", 18), trial("int8", 40, bad)))
    assert choice.chosen.precision == "bf16"
    assert choice.reason(choice.trials[2]).startswith("Refused")


def test_a_less_exact_one_has_to_be_clearly_quicker() -> None:
    choice = PrecisionChoice(trials=(trial("f32", 10), trial("bf16", 10.4)))
    assert choice.chosen.precision == "f32"
    assert "1.04 times as quick as f32" in choice.reason(choice.trials[1])


def test_rounds_are_compared_side_by_side() -> None:
    """A machine that is busy for half of the time meets both."""
    choice = PrecisionChoice(trials=(trial("f32", (10, 5, 10, 4, 10)), trial("bf16", (17, 9, 17, 7, 17))))
    assert choice.chosen.precision == "bf16"
    assert choice.chosen.speedup(choice.trials[0]) == pytest.approx(1.7)


def test_if_the_exact_one_is_wrong_the_version_is_judged_by_it() -> None:
    """Its graph is at fault: that another precision happens to pass does not make it right."""
    choice = PrecisionChoice(trials=(trial("f32", 10, parity(agreeing=50)), trial("bf16", 18)))
    assert choice.chosen.precision == "f32"
    assert not choice.judged.passed


def test_what_a_server_lacks_is_left_out_with_its_reason() -> None:
    left_out = PrecisionTrial(precision="bf16", left_out="this CPU has no bf16 arithmetic")
    choice = PrecisionChoice(trials=(trial("f32", 10), left_out))
    assert choice.chosen.precision == "f32"
    assert choice.reason(left_out) == "Left out: this CPU has no bf16 arithmetic"
    assert [name for name in choice.metrics if "bf16" in name] == []


def test_a_server_that_runs_both_in_one_gives_the_same_numbers() -> None:
    own = found(*grid(5))
    moved = replace(own, confidence=np.nextafter(own.confidence, np.float32(2)))
    assert answers_alike([own, own], [own, own])
    assert not answers_alike([own, own], [own, moved])
    assert not answers_alike([own], [found(*grid(4))])
