from pathlib import Path

import pytest

from infra import demo_data
from tasks.dataset.findings import Severity, Verdict
from tasks.dataset.label_origins import LABEL_ORIGINS, Origin, pack_label_origins
from tasks.dataset.layout import Dataset
from tasks.validation import reader
from tasks.validation.dataset_check import DatasetError, inspect_dataset, open_dataset
from tasks.validation.report.markdown import report_markdown
from tests.tasks.dataset.archives import BOX, Content, check, codes, good, image, policy, zipped
from tests.tasks.validation.sound import by_model, made, sound, tree

SQUARE = "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n"


def test_a_good_archive_is_valid_and_counted(tmp_path: Path) -> None:
    report = check(tmp_path, good(label=BOX + "1 0.5 0.5 0.1 0.1\n" + "1 0.2 0.2 0.1 0.1\n"))

    assert report.verdict is Verdict.VALID
    assert (report.archive, report.digest) == ("data.zip", "0" * 64)
    assert report.statistics.task == "detect"
    assert report.statistics.class_names == ["cat", "dog"]
    assert report.statistics.splits["train"].model_dump() == {
        "images": 1,
        "labelled": 1,
        "instances": {"cat": 1, "dog": 2},
    }


CASES: dict[str, tuple[dict[str, Content], dict[str, str]]] = {
    "broken image": ({"images/train/a.jpg": image()[:-40]}, {"image-unreadable": "error"}),
    "small image": ({"images/train/a.jpg": image(width=9)}, {"image-too-small": "error"}),
    "broken image outside of every split": ({"images/more/c.jpg": b"x"}, {"image-unreadable": "error"}),
    "background": ({"images/train/c.jpg": image()}, {}),
    "half without labels": ({"images/train/c.jpg": image(), "images/val/d.jpg": image(seed=2)}, {}),
    "most without labels": (
        {f"images/train/{number}.jpg": image() for number in range(3)},
        {"image-unlabelled": "warning"},
    ),
    "no label in val": ({"labels/val/b.txt": None}, {"split-empty": "error"}),
    "empty label in val": ({"labels/val/b.txt": "\n"}, {"split-empty": "error"}),
    "only faulty labels in val": ({"labels/val/b.txt": "9 0.5 0.5 0.1 0.1"}, {"label-class": "error"}),
    "label without image": ({"labels/train/c.txt": BOX}, {"label-orphan": "warning"}),
    "label whose image has other capitals": (
        {
            "labels/train/a.txt": None,
            "labels/train/A.txt": BOX,
            "images/train/c.jpg": image(),
            "labels/train/c.txt": BOX,
        },
        {"label-orphan": "warning"},
    ),
    "classes.txt and README are no labels": ({"labels/classes.txt": "cat", "README.txt": "x"}, {}),
    "text elsewhere is no label": ({"docs/notes.txt": "x"}, {}),
    "a list where labels lie": (
        {
            "data.yaml": "train: labels/train.txt\nval: images/val\nnames: [cat, dog]\n",
            "labels/train.txt": "images/train/a.jpg",
        },
        {},
    ),
    "two images of one name": ({"images/train/a.png": image(".png")}, {"label-ambiguous": "error"}),
    "one name in two splits": ({"images/val/a.jpg": image(seed=2), "labels/val/a.txt": BOX}, {}),
    "boxes here, polygons there": (
        {"images/train/c.jpg": image(), "labels/train/c.txt": SQUARE},
        {"label-columns": "error"},
    ),
    "polygons": ({"labels/train/a.txt": SQUARE, "labels/val/b.txt": SQUARE}, {}),
}


@pytest.mark.parametrize(("changes", "expected"), CASES.values(), ids=CASES)
def test_findings_of_a_whole_archive(tmp_path: Path, changes: dict[str, Content], expected: dict[str, str]) -> None:
    assert codes(check(tmp_path, {**good(), **changes})) == expected


def test_the_odd_label_file_is_the_one_named(tmp_path: Path) -> None:
    report = check(tmp_path, {**good(), "images/train/c.jpg": image(), "labels/train/c.txt": SQUARE})

    assert [finding.path for finding in report.findings] == ["labels/train/c.txt"]
    assert report.statistics.task == "detect"


def test_the_share_of_images_without_labels_is_the_policys(tmp_path: Path) -> None:
    entries = {**good(), "images/train/c.jpg": image()}

    assert codes(check(tmp_path, entries, max_unlabelled_share=0.3)) == {"image-unlabelled": "warning"}
    assert codes(check(tmp_path, entries, max_unlabelled_share=0.34)) == {}


def test_faults_of_all_parts_are_reported_together(tmp_path: Path) -> None:
    entries = {
        **good(yaml="train: images/train\nval: images/val\nnames: [cat, cat]\n", label="0 nan 0 1 1\n0 5 5 1 1"),
        "images/val/b.jpg": b"no image",
        "images/val/c.jpg": image(seed=2),
        "labels/val/d.txt": BOX,
        "link/../x": "",
    }

    report = check(tmp_path, entries)

    assert set(codes(report)) == {
        "archive-unsafe-path",
        "yaml-names",
        "label-number",
        "label-range",
        "image-unreadable",
        "label-orphan",
    }
    assert all(finding.message.startswith("Expected ") for finding in report.findings)


def test_without_a_description_images_and_labels_are_still_checked(tmp_path: Path) -> None:
    report = check(tmp_path, {**good(yaml=None, label="0 1 2"), "images/val/b.jpg": b"x"})

    assert set(codes(report)) == {"yaml-missing", "label-columns", "image-unreadable"}
    assert report.statistics.splits == {}


def test_a_label_file_without_end_is_not_read(tmp_path: Path) -> None:
    report = check(tmp_path, good(label=BOX + " " * 9 * 2**20), max_ratio=1e9)

    assert [(finding.code, finding.path) for finding in report.findings] == [
        ("archive-too-large", "labels/train/a.txt")
    ]


def test_findings_beyond_the_limit_are_counted_but_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.validation.collector.MAX_KEPT", 3)
    report = check(tmp_path, {**good(), **{f"labels/train/x{number}.txt": BOX for number in range(10)}})

    assert len(report.findings) == 3
    assert report.omitted == {"label-orphan": {"warning": 7}}
    assert report.counts == {"label-orphan": 10}
    assert report.severities == {"error": 0, "warning": 10, "info": 0}


def test_progress_counts_images_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(zipped({**good(), **{f"images/train/{number}.jpg": image() for number in range(50)}}))
    seen: list[tuple[int, int]] = []

    inspect_dataset(path, "data.zip", "", policy(), lambda done, total: seen.append((done, total)))

    assert seen == [(number, 52) for number in range(1, 53)]


def test_reading_never_runs_far_ahead_of_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory must not grow with the archive: count the images that were read and not yet reported."""
    path = tmp_path / "data.zip"
    path.write_bytes(zipped({**good(), **{f"images/train/{number}.jpg": image() for number in range(200)}}))
    read = 0
    original = reader._submit

    def counting(*arguments: object) -> object:
        nonlocal read
        read += 1
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "_submit", counting)
    ahead = []
    inspect_dataset(path, "data.zip", "", policy(), lambda done, _: ahead.append(read - done))

    assert read == 202
    assert max(ahead) <= 2 * reader._MAX_THREADS


def read_dataset(path: Path) -> Dataset:
    with open_dataset(path) as (_, dataset):
        return dataset


def test_an_open_dataset_streams_images_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(zipped({f"mine/{name}": content for name, content in good().items()}))

    with open_dataset(path) as (archive, dataset):
        (sample,) = dataset.splits["train"]
        assert archive.read(sample.image) == image()
        assert sample.label is not None
        assert archive.read(sample.label) == BOX.encode()
    assert dataset.task == "detect"
    assert dataset.class_names == ("cat", "dog")
    assert read_dataset(path) == dataset


def test_an_open_dataset_knows_its_task_from_the_first_written_label(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(zipped({**good(label=""), "labels/val/b.txt": SQUARE}))

    assert read_dataset(path).task == "segment"


@pytest.mark.parametrize("entries", [good(yaml=None), good(yaml="names: [a]"), None])
def test_a_dataset_with_errors_of_layout_is_not_opened(tmp_path: Path, entries: dict[str, Content] | None) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(zipped(entries) if entries else b"no zip")

    with pytest.raises(DatasetError, match="Expected") as caught:
        read_dataset(path)
    assert {finding.severity for finding in caught.value.findings} == {Severity.ERROR}


@pytest.mark.parametrize("drawn", demo_data.ARCHIVES, ids=lambda drawn: drawn.name)
def test_an_archive_of_many_images_is_not_refused(tmp_path: Path, drawn: demo_data.ArchivePlan) -> None:
    path = demo_data.write_archive(drawn, tmp_path)

    report = inspect_dataset(path, path.name, "", policy()).report

    assert report.verdict is not Verdict.INVALID
    assert report.statistics.task == "detect"
    assert report.statistics.class_names == list(drawn.classes)
    assert {split: figures.images for split, figures in report.statistics.splits.items()} == {
        "train": drawn.train,
        "val": drawn.val,
    }


@pytest.mark.parametrize("task", ["detect", "pose", "classify"])
@pytest.mark.parametrize("empty", [False, True])
def test_an_archive_that_a_model_has_labelled_may_have_train_alone(tmp_path: Path, task: str, *, empty: bool) -> None:
    """Nobody can measure on it; beside other archives it is trained on, and where it is empty it is background."""
    whole = {k: v for k, v in (tree() if task == "classify" else sound(task=task)).items() if "val/" not in k}
    images = [name for name in whole if name.endswith(".jpg")]
    if task != "classify":
        whole["data.yaml"] = str(whole["data.yaml"]).replace("val: images/val\n", "")
        whole |= {name: "" for name in whole if name.startswith("labels/") and empty}
    origins = [by_model(name, row=None) for name in images]

    told = check(tmp_path, whole | {LABEL_ORIGINS: pack_label_origins(origins)})
    untold = check(tmp_path, whole | {LABEL_ORIGINS: pack_label_origins(origins[1:])})

    assert told.verdict is Verdict.VALID
    assert told.statistics.origins
    assert told.statistics.origins.images == {"human": 0, "model": len(images), "model-accepted": 0}
    assert "split-missing" in codes(untold)


def test_labels_are_counted_by_who_made_them(tmp_path: Path) -> None:
    both, accepted = "images/train/0.jpg", "images/train/1.jpg"
    report = check(
        tmp_path,
        made(
            [
                *(by_model(both, row=0), by_model(both, row=3, model_version=4), by_model(both, row=None)),
                *(by_model(accepted, row=row, origin=Origin.ACCEPTED) for row in (0, 1)),
            ]
        ),
    )
    origins = report.statistics.origins
    assert origins
    assert origins.images == {"human": 6, "model": 1, "model-accepted": 1}
    assert origins.labels == {"human": 28, "model": 2, "model-accepted": 2}
    assert origins.instances == {"cat": 1, "dog": 1}
    assert {(each.model, each.images) for each in origins.sources} == {("cells version 3", 1), ("cells version 4", 1)}
    assert [(each.model, each.images) for each in origins.accepted_sources] == [("cells version 3", 1)]
    assert "| a model | 1 | 2 |" in report_markdown(report, "", "", None)
