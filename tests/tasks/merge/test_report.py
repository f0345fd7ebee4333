"""A plan as a page: every name is hostile."""

import json

from tasks.merge.fingerprint import plan_digest
from tasks.merge.report import SHOWN, plan_facts, plan_markdown
from tests.tasks.merge.inputs import merged, source

HOSTILE = "<script>alert(1)</script>|`x`[y](javascript:z)"


def cells(page: str, start: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_page_tells_what_the_plan_decided() -> None:
    plan = merged(
        source(names="cat Dogs"),
        source("b.zip", "dog cat ox", {"train": "cvb", "val": "x", "test": "y"}),
        classes={"ox": None},
    )
    page = plan_markdown(plan)
    assert page.startswith("# Merge: archives 2, classes 2, task detect\n")
    assert cells(page, "images") == ["images", "train", "val", "test"]
    assert cells(page, "a.zip") == ["a.zip", "2", "1", "0"]
    assert cells(page, "merged") == ["merged", "3", "2", "1"]
    assert "kept once with the labels of all: 2." in page
    assert "- **a.zip/images/train/b.jpg** with the labels of b.zip/images/train/b.jpg\n" in page
    assert "keeps:" not in page
    assert cells(page, "0") == ["0", "cat", "0 cat", "1 cat"]
    assert cells(page, "1") == ["1", "Dogs", "1 Dogs", "0 dog"]
    assert cells(page, "") == ["", "dropped", "-", "2 ox"]
    assert "- **b.zip/images/train/c.jpg** of train, the same image: a.zip/images/val/c.jpg in val" in page
    assert "## Conflicts" not in page


def test_conflicts_are_reported_with_what_stops_the_merge() -> None:
    page = plan_markdown(
        merged(source(names="cat dog"), source("b.zip", "cat ox", {"train": "v", "val": "x"}), classes={"x": None})
    )
    assert "- **merge-unknown-class** (stops the merge): Expected" in page
    assert "- **merge-partial-labels**: Expected" in page


def test_it_is_said_in_how_many_images_of_which_archive_a_class_is_unknown() -> None:
    archives = (source(names="cat dog"), source("b.zip", "cat ox", {"train": "bv", "val": "x"}))
    plan = merged(*archives)
    assert plan_facts(plan)["unknown_classes"] == {"a.zip": {"ox": 2}, "b.zip": {"dog": 2}}
    assert "teach nothing about it\n\n- **a.zip**: ox 2\n- **b.zip**: dog 2" in plan_markdown(plan)
    assert plan_facts(merged(*archives, partial_labels="warn"))["unknown_classes"] == {}


def test_nothing_breaks_out_of_the_page() -> None:
    plan = merged(
        source(f"{HOSTILE}\n# x.zip", f"{HOSTILE} dog"),
        source("b.zip", "dog \n#y", {"train": "bc", "val": "x"}),
        classes={HOSTILE: "z|z"},
    )
    page = plan_markdown(plan)
    assert "<" not in page.replace("\\<", "").replace("<wbr>", "")
    assert "`" not in page.replace("\\`", "")
    assert "\n# x" not in page
    widths = {line.count("|") - line.count("\\|") for line in page.splitlines() if line.startswith("|")}
    assert widths <= {3, 4, 5}
    json.dumps(plan_facts(plan))


def test_a_page_of_a_huge_plan_is_cut_and_says_how_much_it_leaves_out() -> None:
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 3 * SHOWN)))
    names = " ".join(f"name{at:04}" for at in range(3000)) + f" {'x' * 100_000}"
    page = plan_markdown(
        merged(
            source(names=names, splits={"train": many, "val": "c"}), source("b.zip", "n", {"train": "y", "val": many})
        )
    )
    assert f"And {2 * SHOWN} more." in page
    assert "And 2002 more." in page
    assert len(page) < 200_000


def test_facts_are_the_plan_as_json() -> None:
    plan = merged(source(), source("b.zip", "dog cat ox", {"train": "cv", "val": "x"}), classes={"ox": None})
    assert json.loads(json.dumps(plan_facts(plan))) == {
        "archives": ["a.zip", "b.zip"],
        "task": "detect",
        "class_names": ["cat", "dog"],
        "archive_class_names": {"a.zip": ["cat", "dog"], "b.zip": ["dog", "cat", "ox"]},
        "class_ids": {"a.zip": [0, 1], "b.zip": [1, 0, None]},
        "images": {"train": 3, "val": 2},
        "repeated": 0,
        "pseudo_labelled": 0,
        "united": [["a.zip/images/val/c.jpg", "b.zip/images/train/c.jpg"]],
        "keypoints": None,
        "flip_idx": None,
        "gold": None,
        "digest": plan_digest(plan),
        "unknown_classes": {},
        "conflicts": [],
        "left_out": [
            {
                "image": "b.zip/images/train/c.jpg",
                "split": "train",
                "kept": "a.zip/images/val/c.jpg",
                "kept_split": "val",
                "reason": "the same image",
            }
        ],
    }
