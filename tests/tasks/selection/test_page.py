"""What a choice looks like on its page, in the report and as values."""

from dataclasses import replace

import numpy as np

from tasks.inference.results.summary import Failure
from tasks.parameters import SelectionParams
from tasks.selection.choice import choose
from tasks.selection.page import Selection, selection_facts, selection_markdown, selection_page, selection_sentence
from tasks.selection.pool import LearntImages, Pool
from tasks.selection.session import LookedAt
from tests.tasks.selection.pools import CLASSES, found, image, planted_pool

HOSTILE = "s3://media/<script>alert(1)</script>\udcff.jpg"


def chosen_of(pool: Pool, images: int, failures: tuple[Failure, ...] = ()) -> Selection:
    looked_at = LookedAt(pool=pool, failures=failures, learnt=2, asked=3, repeated=1, knows_learnt=False)
    return Selection(
        title="cells version 3", run="RUN", looked_at=looked_at, choice=choose(pool, SelectionParams(images=images))
    )


def test_the_page_tells_what_is_chosen_and_what_is_left_out() -> None:
    pool, _ = planted_pool(0)
    selection = chosen_of(pool, 20, (Failure(source="film.mp4", reason="found a video"),))
    first = selection.choice.chosen[0]
    page = selection_page(selection, {first.image: "data:image/jpeg;base64,AAAA"})
    assert page.count('<circle class="chosen"') == 20
    assert page.count('<circle class="unchosen"') == len(pool.images)
    assert page.count('<circle class="learnt"') == 200
    assert page.count("<article") == 20
    assert page.count("<img ") == 1
    for told in (
        first.reason,
        "run:RUN",
        "learnt already",
        "found a video",
        "Strategy disagreement chose nothing",
        "may be among these",
    ):
        assert told in page
    sentence = selection_sentence(selection)
    assert sentence.startswith("20 of 160 images chosen for cells version 3, about ")
    left_out = (
        "9 near duplicates of others, 1 the same file as another, 2 learnt already, 3 asked about in a loop, 1 failed"
    )
    assert f"left out: {left_out}." in sentence
    assert "run:RUN" in selection_markdown(selection)
    facts = selection_facts(selection)
    assert [each["image"] for each in facts["chosen"]] == [
        selection.name(each.image) for each in selection.choice.chosen
    ]
    assert len(facts["near_duplicates"]) == 9


def test_a_choice_of_nothing_has_a_page_that_says_so() -> None:
    alike = [image(number, found((0, 0.9)), [1, 0.001 * number]) for number in range(5)]
    learnt = LearntImages(embeddings=np.array([[1, 0], [0, 1]], np.float32), class_counts=np.array([5.0, 5, 5]))
    pool = Pool(images=tuple(alike), learnt=learnt, class_names=CLASSES)
    looked_at = LookedAt(pool=pool, failures=(), learnt=0, asked=0, repeated=0, knows_learnt=True)
    choice = choose(pool, SelectionParams(strategy="drift"))
    selection = Selection(title="cells version 3", run="RUN", looked_at=looked_at, choice=choice)
    page = selection_page(selection, {})
    assert "No image was chosen." in page
    assert "0 of 100 images are chosen: no strategy speaks for the others." in page
    assert page.count('<circle class="unchosen"') == 5
    assert "left out" not in selection_sentence(selection)
    assert "No image was chosen." in selection_markdown(selection)


def test_a_name_is_shown_and_nothing_in_it_runs() -> None:
    one = image(0, found((0, 0.5)), np.eye(4)[0])
    pool = Pool(images=(replace(one, source=replace(one.source, name=HOSTILE)),), learnt=None, class_names=CLASSES)
    selection = chosen_of(pool, 5, (Failure(source=HOSTILE, reason=HOSTILE),))
    page = selection_page(selection, {})
    page.encode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in selection_markdown(selection)
    assert 'cx="' in page
