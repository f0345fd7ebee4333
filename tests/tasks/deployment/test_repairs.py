"""What a repair says; with real Tritons: tests/flows/test_several_tritons.py."""

import pytest

from tasks.deployment.repairs import Repairs

ALL_RIGHT = "every Triton that answers serves what is deployed"


@pytest.mark.parametrize(
    ("repairs", "sentence"),
    [
        (Repairs(), ALL_RIGHT),
        (Repairs(servers={"a": []}), ALL_RIGHT),
        (Repairs(servers={"a": ["x:1", "y:1"], "b": ["x:1"]}), "put right: a on x:1, y:1; b on x:1"),
        (
            Repairs(left=["a"], away=["x:1"]),
            f"{ALL_RIGHT}; left to the rollout at work on it: a; without an answer: x:1",
        ),
    ],
)
def test_a_repair_says_what_it_did_and_what_it_could_not_do(repairs: Repairs, sentence: str) -> None:
    assert repairs.sentence == sentence
