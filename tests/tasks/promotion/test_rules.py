"""Who becomes challenger: the rule, and what is told of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.parameters import PromotionPolicy, TrainingParams
from tasks.promotion.report import promotion_markdown
from tasks.promotion.rules import Decision, EvaluatedVersion, decide, decision_facts, decision_tags, is_comparable
from tasks.training.events import TrainedModel
from tasks.training.report.markdown import training_markdown
from tasks.vision.metrics import MAP50_METRIC, PRIMARY_METRIC, Scores

GOLD = "gold.zip"
HOSTILE = "<script>|[x](javascript:y)`\n# title"


def scores(classes: Mapping[str, float], task: str = "detect", lenient: float = 0.6) -> Scores:
    """Scores by class; over all it is better than any class, so that nothing is decided by that."""
    main = PRIMARY_METRIC[task]
    return Scores(
        task=task,
        metrics={MAP50_METRIC[task]: lenient, main: lenient if task == "classify" else 0.99},
        classes={name: {main: value} for name, value in classes.items()},
        images=9,
    )


def contender(
    version: int,
    classes: Mapping[str, float],
    task: str = "detect",
    names: str = "",
    gold: Mapping[str, float] | None = None,
) -> EvaluatedVersion:
    """A model that knows the classes it has scores of, and those of `names`."""
    known = tuple(dict.fromkeys([*classes, *names.split()]))
    measured = {"validation": scores(classes, task)} | ({} if gold is None else {"gold": scores(gold, task)})
    return EvaluatedVersion(version=version, task=task, class_names=known, scores=measured)


def model(
    version: int, task: str = "detect", names: str = "", gold: Mapping[str, float] | None = None, **classes: float
) -> EvaluatedVersion:
    return contender(version, classes, task, names, gold)


def decided(challenger: EvaluatedVersion, champion: EvaluatedVersion | None, **policy: object) -> Decision:
    return decide(challenger, champion, PromotionPolicy.model_validate({"min_gain": 0} | policy))


@pytest.mark.parametrize(("reached", "promoted"), [(0.4, False), (0.401, True)])
def test_by_default_an_equal_model_is_not_better(reached: float, promoted: bool) -> None:
    assert decide(model(2, cat=reached), model(1, cat=0.4), PromotionPolicy()).promoted is promoted


# challenger, champion, policy -> what each reason against it says, in order; none: promoted
Case = tuple[EvaluatedVersion, EvaluatedVersion | None, dict[str, object], tuple[str, ...]]
RULES: dict[str, Case] = {
    "no champion": (model(2, cat=0.1), None, {}, ()),
    "no champion, useless": (model(2, cat=0.1), None, {"min_map50": 0.61}, ("mAP50 of at least 0.610, found 0.600",)),
    "no champion, just useful": (model(2, cat=0.1), None, {"min_map50": 0.6}, ()),
    "no champion, of no use at all": (
        EvaluatedVersion(
            version=2, task="detect", class_names=("cat",), scores={"validation": scores({"cat": 0.01}, lenient=0.099)}
        ),
        None,
        {},
        ("mAP50 of at least 0.100 of a first version, found 0.099. It finds next to nothing",),
    ),
    "no champion, taken all the same": (
        EvaluatedVersion(
            version=2, task="detect", class_names=("cat",), scores={"validation": scores({"cat": 0.01}, lenient=0.0)}
        ),
        None,
        {"min_map50": 0},
        (),
    ),
    "no champion, a classifier that guesses": (
        EvaluatedVersion(
            version=2,
            task="classify",
            class_names=("cat",),
            scores={"validation": scores({"cat": 0.05}, "classify", lenient=0.05)},
        ),
        None,
        {},
        ("accuracy_top1 of at least 0.100 of a first version, found 0.050. It finds next to nothing",),
    ),
    "a champion is measure enough": (
        EvaluatedVersion(
            version=2, task="detect", class_names=("cat",), scores={"validation": scores({"cat": 0.02}, lenient=0.03)}
        ),
        EvaluatedVersion(
            version=1, task="detect", class_names=("cat",), scores={"validation": scores({"cat": 0.01}, lenient=0.02)}
        ),
        {},
        (),
    ),
    "equal": (model(2, cat=0.1 + 0.2, dog=0.7), model(1, cat=0.3, dog=0.7), {}, ()),
    "better": (model(2, cat=0.5), model(1, cat=0.4), {}, ()),
    "worse": (model(2, cat=0.39), model(1, cat=0.4), {}, ("mAP50-95 of at least 0.400 on validation (1 shared",)),
    "better by what is asked": (model(2, cat=0.3), model(1, cat=0.2), {"min_gain": 0.1}, ()),
    "better by less": (model(2, cat=0.3), model(1, cat=0.2), {"min_gain": 0.11}, ("at least 0.310",)),
    "worse by what is let pass": (model(2, cat=0.37), model(1, cat=0.4), {"min_gain": -0.03}, ()),
    "one class falls": (
        model(2, cat=0.9, dog=0.34),
        model(1, cat=0.1, dog=0.4),
        {},
        ("no class more than 0.050 below the champion on validation, found 1 below: 'dog' from 0.400 to 0.340",),
    ),
    "one class falls by what is let pass": (model(2, cat=0.9, dog=0.35), model(1, cat=0.1, dog=0.4), {}, ()),
    "two fall, the worst first": (
        model(2, cat=0.9, dog=0.3, emu=0.2),
        model(1, cat=0.1, dog=0.4, emu=0.4),
        {},
        ("found 2 below: 'emu' from 0.400 to 0.200, 'dog' from 0.400 to 0.300",),
    ),
    "a class is lost": (
        model(2, cat=0.9),
        model(1, cat=0.1, names="cat dog emu"),
        {},
        ("every class of the champion (version 1), found 'dog', 'emu' gone: they would no longer be found",),
    ),
    "a new class does not count": (model(2, cat=0.4, yak=0.0), model(1, cat=0.4), {}, ()),
    "nor does it help": (model(2, cat=0.39, yak=0.9), model(1, cat=0.4), {}, ("at least 0.400",)),
    "other spellings": (model(2, Cats=0.3, big_dog=0.5), contender(1, {"Big Dog": 0.5, "cat": 0.3}), {}, ()),
    "other spellings, worse": (model(2, Cats=0.2), model(1, cat=0.3), {"max_class_drop": 0.5}, ("at least 0.300",)),
    "a class that the images do not show": (model(2, cat=0.4, names="dog"), model(1, cat=0.4, names="dog"), {}, ()),
    "a class that nothing is found of": (
        model(2, cat=0.4, names="dog"),
        model(1, cat=0.4, dog=0.01),
        {},
        ("mAP50-95 of at least 0.205 on validation (2 shared classes), found 0.200",),
    ),
    "no class to compare by": (
        model(2, names="cat"),
        model(1, names="cat"),
        {},
        ("classes that both know in the val",),
    ),
    "another task": (
        model(2, cat=0.9),
        model(1, "segment", cat=0.1),
        {},
        ("the champion's task segment (version 1), found detect. Train it under another model_name",),
    ),
    "a champion without classes": (model(2, cat=0.9), model(1), {}, ("the classes of the champion (version 1)",)),
    "a champion that was not measured": (
        model(2, cat=0.9),
        replace(model(1, cat=0.1), scores={}),
        {},
        ("scores of version 1 on the validation images, found none",),
    ),
    "not measured itself": (
        replace(model(2, cat=0.9), scores={}),
        model(1, cat=0.1),
        {},
        ("scores of version 2 on the validation images, found none",),
    ),
    "gold as well": (model(2, cat=0.5, gold={"cat": 0.5}), model(1, cat=0.4, gold={"cat": 0.5}), {"gold": GOLD}, ()),
    "worse on gold": (
        model(2, cat=0.5, gold={"cat": 0.4}),
        model(1, cat=0.4, gold={"cat": 0.5}),
        {"gold": GOLD},
        ("at least 0.500 on gold", "below the champion on gold"),
    ),
    "gold that was not asked for": (model(2, cat=0.5, gold={"cat": 0.0}), model(1, cat=0.4, gold={"cat": 1.0}), {}, ()),
    "gold that was not measured": (
        model(2, cat=0.5),
        model(1, cat=0.4, gold={"cat": 0.5}),
        {"gold": GOLD},
        ("scores of version 2 on the gold images",),
    ),
    "gold that the champion was not measured on": (
        model(2, cat=0.5, gold={"cat": 0.5}),
        model(1, cat=0.4),
        {"gold": GOLD},
        ("scores of version 1 on the gold images",),
    ),
    "gold that shows no shared class": (
        model(2, cat=0.5, gold={}),
        model(1, cat=0.4, gold={}),
        {"gold": GOLD},
        ("classes that both know in the gold images",),
    ),
    "everything at once": (
        model(2, cat=0.1, dog=0.1, gold={"cat": 0.1}),
        model(1, cat=0.4, dog=0.4, emu=0.4, gold={"cat": 0.4}),
        {"gold": GOLD, "min_map50": 0.7},
        ("mAP50 of at least", "every class", "on validation", "on validation", "on gold", "on gold"),
    ),
    "trees": (model(2, "classify", cat=0.5), model(1, "classify", cat=0.5), {"min_map50": 0.6}, ()),
    "worse trees": (
        model(2, "classify", cat=0.4),
        model(1, "classify", cat=0.5),
        {"min_map50": 0.7, "max_class_drop": 0.2},
        ("accuracy_top1 of at least 0.700, found 0.600", "accuracy_top1 of at least 0.500 on validation"),
    ),
    "masks, not boxes": (
        model(2, "segment", cat=0.4),
        model(1, "segment", cat=0.42),
        {},
        ("mAP50-95_mask of at least 0.420",),
    ),
}


@pytest.mark.parametrize(("challenger", "champion", "policy", "against"), RULES.values(), ids=RULES)
def test_a_version_is_promoted_unless_a_requirement_is_missed(
    challenger: EvaluatedVersion, champion: EvaluatedVersion | None, policy: dict[str, object], against: tuple[str, ...]
) -> None:
    decision = decided(challenger, champion, **policy)
    assert decision.promoted is (not against)
    if against:
        assert len(decision.reasons) == len(against), decision.reasons
        for reason, part in zip(decision.reasons, against, strict=True):
            assert part in reason
    assert all(reason.strip() for reason in decision.reasons)


@pytest.mark.parametrize(
    ("case", "data"),
    {
        "worse on gold": ("gold",),
        "everything at once": ("validation", "gold"),
        "a champion that was not measured": (),
        "gold as well": (),
    }.items(),
)
def test_the_images_on_which_a_version_is_worse_are_told(case: str, data: tuple[str, ...]) -> None:
    challenger, champion, policy, _ = RULES[case]
    assert decided(challenger, champion, **policy).worse_on == data


def test_what_was_reached_is_reported() -> None:
    decision = decided(model(2, cat=0.5, dog=0.3, yak=0.9), model(1, cat=0.4, dog=0.2), min_map50=0.25)
    assert decision.reasons == (
        "mAP50 0.600 reaches promotion.min_map50 0.250.",
        "mAP50-95 0.400 on validation (2 shared classes), the champion (version 1) has 0.300.",
        "New classes, not compared: 'yak'.",
    )
    assert decision.sentence.startswith(
        "version 2: promoted, it gets alias challenger, which deploy-model takes next. mAP50 0.600"
    )
    assert "refused, it gets no alias" in decided(model(2, cat=0.3), model(1, cat=0.4)).sentence


def test_the_table_compares_what_can_be_compared() -> None:
    challenger = model(2, cat=0.5, yak=0.9, gold={"cat": 0.4})
    champion = model(1, Cats=0.25, names="Cats dog", gold={"Cats": 0.5})
    rows = decided(challenger, champion, gold=GOLD).rows
    assert [(*row, row.difference) for row in rows] == [
        ("validation", "cat", 0.5, 0.25, 0.25),
        ("validation", "yak", 0.9, None, None),
        ("validation", "dog", None, None, None),
        ("gold", "cat", 0.4, 0.5, pytest.approx(-0.1)),
        ("gold", "dog", None, None, None),
    ]


@pytest.mark.parametrize(
    ("challenger", "champion", "expected"),
    [
        (model(2, cat=0), model(1, Cats=0, dog=0), True),
        (model(2, cat=0), model(1, dog=0), False),
        (model(2, cat=0), model(1, "obb", cat=0), False),
        (model(2, cat=0), model(1), False),
    ],
)
def test_what_can_be_measured_on_the_same_images(
    challenger: EvaluatedVersion, champion: EvaluatedVersion, expected: bool
) -> None:
    assert is_comparable(challenger, champion) is expected


def test_tags_are_short_texts() -> None:
    promoted = decided(model(2, cat=0.5), model(1, cat=0.4))
    assert decision_tags(promoted) == {
        "promotion": "promoted",
        "promotion_reason": " ".join(promoted.reasons),
        "promotion_metric": "mAP50-95",
        "challenger_score": "0.5000",
        "champion_version": "1",
        "champion_score": "0.4000",
    }
    assert decision_tags(decided(model(2, cat=0.5), None))["challenger_score"] == "0.9900"
    assert set(decision_tags(decided(model(2, cat=0.5), None))) & {"champion_version", "champion_score"} == set()
    apart = decision_tags(decided(model(2, cat=0.5), contender(1, {"x" * 2000: 0.4}, "obb")))
    assert (apart["promotion"], apart["champion_version"], "champion_score" in apart) == ("refused", "1", False)
    assert max(map(len, apart.values())) <= 500
    fallen = replace(promoted, promoted=False, reasons=("Worse.",), falls=("Class a fell.", "Class b fell."))
    assert decision_tags(fallen)["promotion_reason"] == "Worse. Class a fell."


def test_facts_are_the_decision_as_json() -> None:
    decision = decided(model(2, cat=0.5), model(1, cat=0.25, dog=0.1))
    assert json.loads(json.dumps(decision_facts(decision))) == {
        "version": 2,
        "promoted": False,
        "reasons": list(decision.reasons),
        "metric": "mAP50-95",
        "champion_version": 1,
        "means": [{"data": "validation", "classes": 1, "challenger": 0.5, "champion": 0.25}],
        "falls": [],
        "classes": [
            {"data": "validation", "name": "cat", "challenger": 0.5, "champion": 0.25, "difference": 0.25},
            {"data": "validation", "name": "dog", "challenger": None, "champion": None, "difference": None},
        ],
    }


def test_the_page_begins_with_the_decision() -> None:
    challenger = model(2, cat=0.5, dog=0.1, yak=0.9)
    page = promotion_markdown(decided(challenger, model(1, cat=0.25, dog=0.4, emu=0.2)))
    lines = page.splitlines()
    assert lines[0] == "**Refused: version 2 gets no alias, and deploy-model passes it over.**"
    assert lines[2].startswith("- Expected every class of the champion")
    assert [line for line in lines if line.startswith("| validation |")] == [
        "| validation | all compared (2) | 0.3000 | 0.3250 | -0.0250 |",
        "| validation | emu | not known | known |  |",
        "| validation | dog | 0.1000 | 0.4000 | -0.3000 |",
        "| validation | cat | 0.5000 | 0.2500 | +0.2500 |",
        "| validation | yak | 0.9000 | - |  |",
    ]
    promoted = promotion_markdown(decided(model(2, cat=0.5), None))
    assert promoted.startswith("**Promoted: version 2 gets alias challenger, which deploy-model takes next.**")
    assert "| validation | cat | 0.5000 | - |  |" in promoted


def test_nothing_breaks_out_of_the_page_and_it_has_an_end() -> None:
    many = {f"{HOSTILE}{'x' * 200}{number}": 0.5 for number in range(900)}
    page = promotion_markdown(decided(contender(2, many), contender(1, {**many, f"{HOSTILE} lost": 0.5})))
    assert "<script>" not in page
    assert "\n# title" not in page
    assert "And 701 more." in page
    assert len(page) < 60_000


def trained(task: str = "detect", **classes: dict[str, float]) -> TrainedModel:
    reached = Scores(task=task, metrics={MAP50_METRIC[task]: 0.6, PRIMARY_METRIC[task]: 0.5}, classes=classes, images=4)
    return TrainedModel(
        weights=Path("w.pt"),
        folder=Path("runs"),
        task=task,
        class_names=("cat", "dog"),
        scores=reached,
        epochs=30,
        best_epoch=12,
        batch=8,
    )


def test_a_training_page_shows_the_decision_and_every_class() -> None:
    decision = decided(model(3, cat=0.5), None)
    page = training_markdown(
        "m", 3, trained(cat={"mAP50": 0.6, "mAP50-95": 0.5}), {"train": 20}, decision, TrainingParams()
    )
    assert page.startswith(f"# m version 3\n\n{promotion_markdown(decision)}\n\n## Training")
    assert "Task detect. Images: 20 train. Best epoch 12 of 30, batch 8 at the end (16 was set)." in page
    assert "on the 4 validation images" in page
    assert "| mAP50-95 | 0.5000 |" in page
    assert "| 0 | cat | 0.6000 | 0.5000 |" in page
    assert "| 1 | dog | not in validation | not in validation |" in page
    told = training_markdown(
        "m", 3, trained(), {"train": 20}, decision, TrainingParams(batch=8, overrides={"lrf": 0.1})
    )
    assert "batch 8. Overrides: lrf 0.1." in told


@pytest.mark.parametrize(
    ("task", "header"),
    [
        ("segment", "| id | class | mAP50\\_mask | mAP50-95\\_mask |"),
        ("pose", "| id | class | mAP50\\_pose | mAP50-95\\_pose |"),
        ("obb", "| id | class | mAP50 | mAP50-95 |"),
        ("classify", "| id | class | accuracy\\_top1 |"),
    ],
)
def test_a_training_page_has_the_metrics_of_its_task(task: str, header: str) -> None:
    reached = {MAP50_METRIC[task]: 0.25, PRIMARY_METRIC[task]: 0.125}
    page = training_markdown("m", 1, trained(task, cat=reached), {}, decided(model(1, task, cat=0.5), None))
    assert header in page
    assert f"| 0 | cat | {' | '.join(f'{value:.4f}' for value in reached.values())} |" in page


@pytest.mark.parametrize(
    ("own", "rivals", "limit", "promoted"),
    [(0.30, 0.35, 0.05, True), (0.29, 0.35, 0.05, False), (None, 0.35, 0.05, False), (0.3, None, 0.05, False)],
)
def test_a_version_is_about_as_good_as_the_champion_on_corrupted_images(
    own: float | None, rivals: float | None, limit: float, promoted: bool
) -> None:
    new, champion = replace(model(2, cat=0.9), corrupted=own), replace(model(1, cat=0.5), corrupted=rivals)
    decision = decide(new, champion, PromotionPolicy(max_corruption_drop=limit))
    assert decision.promoted == promoted
    assert "over corrupted images" in decision.sentence
    assert decide(new, champion, PromotionPolicy()).promoted
