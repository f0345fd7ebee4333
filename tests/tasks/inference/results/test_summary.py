"""Totals of a run, places in its gallery, names of its files, and the page that says it all."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.inference.results.report import inference_markdown, inference_sentence, left_out_text, summary_json
from tasks.inference.results.summary import (
    Failure,
    GalleryItem,
    InferenceSummary,
    IntervalUnion,
    RunTotals,
    item_classes,
    output_stem,
)
from tests.tasks.inference.results.examples import MODEL, item, picture

SUMMARY = InferenceSummary(
    inputs=4,
    failed_inputs=1,
    images=3,
    videos=1,
    frames=5,
    detections=2,
    seconds=2.0,
    classes={"red": 2},
    histogram=(0,) * 19 + (2,),
    failures=(Failure(source="a|b", reason="expected\n# x"),),
    failure_count=1,
    versions=(7,),
    class_names=("red", "white"),
)


def test_an_item_is_one_line_of_json_and_back() -> None:
    shown = replace(item(picture(1, 0, 1)), annotated="annotated/a.jpg", source="</script>\u2028\n红.jpg")
    line = shown.to_line()
    assert line.isascii()
    assert len(line.splitlines()) == 1
    back = GalleryItem.from_line(line.encode())
    assert back == replace(shown, classes=back.classes)
    assert [(each.class_id, each.count, each.confidence) for each in back.classes] == [(1, 2, 0.9), (0, 1, 0.89)]
    assert [(each.steps, each.boxes) for each in back.classes] == [(each.steps, each.boxes) for each in shown.classes]
    assert json.loads(replace(shown, source="\ud800").to_line())["source"] == "\\ud800"


def test_a_failure_is_one_line_of_json_and_back() -> None:
    failure = Failure(source="a\n.jpg", reason="expected 'x', found \u2028")
    assert Failure.from_line(failure.to_line()) == failure
    said = {"input": "a\n.jpg", "reason": "expected 'x', found \u2028", "severity": "error"}
    assert json.loads(failure.to_line()) == said
    assert Failure.from_line(Failure(source="\udcff", reason="\ud800").to_line()) == Failure(
        source="\\udcff", reason="\\ud800"
    )


def test_an_items_classes_are_counted_over_its_pictures() -> None:
    counted = item_classes([picture(1, 0), picture(1)])
    assert [(each.class_id, each.count) for each in counted] == [(1, 2), (0, 1)]
    assert counted[0].confidence == pytest.approx(0.9)


def test_tallies_add_up_and_survive_json() -> None:
    tally = RunTotals(inputs=1, failed_inputs=1, failure_count=2, images=3, videos=4, frames=5)
    tally.classes["red"] = 6
    tally.count_confidences(np.array([0, 0.05, 0.999, 1, 1], np.float32))
    assert tally.histogram == [1, 1, *[0] * 17, 3]
    total = RunTotals()
    for _ in range(2):
        total.add(RunTotals.from_json(json.loads(json.dumps(tally.to_json()))))
    assert total == RunTotals(
        inputs=2,
        failed_inputs=2,
        failure_count=4,
        images=6,
        videos=8,
        frames=10,
        classes=Counter(red=12),
        histogram=[2, 2, *[0] * 17, 6],
    )


TENS = st.integers(0, 30).map(lambda number: number * 10)  # pauses of exactly 10 s, too


@given(st.lists(st.tuples(TENS | st.integers(0, 300), st.sampled_from([0, 10, 20]) | st.integers(0, 40)), max_size=30))
def test_busy_time_counts_every_moment_once(spans: list[tuple[int, int]]) -> None:
    busy = IntervalUnion()
    for start, length in spans:
        busy.add(float(start), float(start + length))
    # A pause of at most 10 s belongs to the work around it.
    covered = {tenth for start, length in spans for tenth in range(start, start + length + 10)}
    blocks = sum(moment - 1 not in covered for moment in covered)
    assert busy.seconds == len(covered) - 10 * blocks


@pytest.mark.parametrize(
    "source", ["../../etc/passwd", "/abs.jpg", "a\\..\\b", "x" * 5000, "ü 红.png", "", ".", "a\0b", "\udcff"]
)
def test_output_names_are_safe(source: str) -> None:
    stem = output_stem(source)
    assert stem == output_stem(source)
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert len(stem) < 100


def test_output_names_differ_where_sources_do() -> None:
    sources = ["a/x.jpg", "b/x.jpg", "x.jpg", "x.png", "X.jpg"]
    assert len({output_stem(source).lower() for source in sources}) == len(sources)


def test_the_page_says_the_totals_and_no_name_breaks_out() -> None:
    page = inference_markdown(SUMMARY, MODEL.name, "https://gallery", "s3://predictions/x/")
    assert "# cells version 7\n" in page
    assert inference_sentence(SUMMARY) == "3 images and 5 video frames, 2 detections, 4.0 images/s, 1 inputs failed"
    assert inference_sentence(SUMMARY) in page
    assert "| red | 2 |" in page
    assert "- **a\\|b** (error): expected \\# x" in page


def test_the_page_names_all_versions_that_answered() -> None:
    several = replace(SUMMARY, versions=(7, 8, 9))
    assert "# cells versions 7, 8 and 9\n" in inference_markdown(several, MODEL.name, "", "")
    assert "Another version was deployed" in inference_markdown(several, MODEL.name, "", "")
    assert "# cells version none\n" in inference_markdown(replace(SUMMARY, versions=()), MODEL.name, "", "")


def test_programs_get_the_totals_too() -> None:
    told = json.loads(summary_json(replace(SUMMARY, versions=(7, 8)), MODEL.name, "https://gallery", {"iou": 0.5}))
    assert (told["model_name"], told["model_version"], told["model_versions"]) == ("cells", 8, [7, 8])
    assert (told["inputs"], told["failed_inputs"], told["failures"], told["detections"]) == (4, 1, 1, 2)
    assert (told["images_per_second"], told["gallery"]) == (4.0, "https://gallery")


def test_inputs_that_were_left_out_are_told_and_did_not_fail() -> None:
    some = replace(SUMMARY, left_out={"run-1": 2, "run-2": 14})
    assert inference_sentence(some).endswith("1 inputs failed; 16 inputs left out, done by run run-2 (14), run-1 (2)")
    assert (SUMMARY.failure_share, some.failure_share) == (1 / 4, 1 / 20)
    assert json.loads(summary_json(some, MODEL.name, "", {}))["left_out"] == {"run-1": 2, "run-2": 14}
    many = left_out_text({f"run-{number}": 10 - number for number in range(8)})
    assert many == "52 inputs left out, done by run run-0 (10), run-1 (9), run-2 (8), run-3 (7), run-4 (6) and 3 more"
