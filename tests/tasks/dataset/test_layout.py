import os
import re
from pathlib import Path

import pytest

from tasks.dataset.archive import open_archive
from tasks.dataset.layout import read_layout
from tests.tasks.dataset.archives import BOX, Content, check, codes, good, image, policy, zipped

BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
TAIL = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def names(value: str) -> str:
    return f"train: images/train\nval: images/val\nnames: {value}\n"


# Absolute, on a drive, at home, of Ultralytics' examples, not there.
PATHS_OF_OTHERS = ["/data/x", "'c:\\data'", "~/data", "../datasets/coco8", "elsewhere"]
BAD_YAML: dict[str, tuple[Content, str]] = {
    "none": (None, "yaml-missing"),
    "not a mapping": ("- a\n- b\n", "yaml-invalid"),
    "empty": ("", "yaml-invalid"),
    "not YAML": ("names: [cat\ntrain: {", "yaml-invalid"),
    "not UTF-8": (b"names: [\xff]\n", "yaml-invalid"),
    "over 1 MiB": (TAIL + "# " + os.urandom(2**19).hex(), "yaml-invalid"),
    "alias bomb": (BOMB + TAIL, "yaml-invalid"),
    "nested without end": ("a: " + "[" * 100_000 + TAIL, "yaml-invalid"),
    "Python object": ("x: !!python/object/apply:os.system [ls]\n" + TAIL, "yaml-invalid"),
    "converter that breaks": ("x: !!int nothing\n" + TAIL, "yaml-invalid"),
    "truth value that breaks": ("x: !!bool perhaps\n" + TAIL, "yaml-invalid"),
    "date that breaks": ("x: !!timestamp soon\n" + TAIL, "yaml-invalid"),
    "key that is a list": ("? [a]\n: b\n" + TAIL, "yaml-invalid"),
    "bad keypoints": ("kpt_shape: [17, 5]\n" + TAIL, "yaml-invalid"),
    "unknown task": ("task: dance\n" + TAIL, "yaml-invalid"),
    "download": ("download: https://example.com/x.zip\n" + TAIL, "yaml-executable"),
    "no names": ("train: images/train\nval: images/val\nnc: 2\n", "yaml-names"),
    "empty names": (names("[]"), "yaml-names"),
    "doubled names": (names("[cat, cat]"), "yaml-names"),
    "names that are numbers": (names("[0, 1]"), "yaml-names"),
    "a name that YAML takes for false": (names("[yes, no]"), "yaml-names"),
    "a blank name": (names("[cat, ' ']"), "yaml-names"),
    "a name with a control character": (names('[cat, "\\e[2J"]'), "yaml-names"),
    "keys with a gap": (names("{0: cat, 2: dog}"), "yaml-names"),
    "keys from one": (names("{1: cat, 2: dog}"), "yaml-names"),
    "keys that are truth values": (names("{false: cat, true: dog}"), "yaml-names"),
    "nc disagrees": ("nc: 3\n" + TAIL, "yaml-names"),
    "nc of thousands of digits": (f"nc: 0x{'f' * 9000}\n" + TAIL, "yaml-names"),
    **{
        f"path {path} without the splits": (f"path: {path}\n" + TAIL.replace("images/", "pictures/"), "yaml-path")
        for path in PATHS_OF_OTHERS
    },
    "path that is a number": ("path: 3\n" + TAIL, "yaml-path"),
    "absolute split": (TAIL.replace("images/val", "/images/val"), "yaml-path"),
    "split that leaves": (TAIL.replace("images/val", "../../images/val"), "yaml-path"),
    "split that is not there": (TAIL.replace("images/val", "images/valid"), "yaml-path"),
    "split that only begins alike": (TAIL.replace("images/val", "images/va"), "yaml-path"),
    "split that is an image": (TAIL.replace("images/val", "images/val/b.jpg"), "yaml-path"),
    "split of another type": (TAIL.replace("images/val", "{a: b}"), "yaml-path"),
    "no val": ("train: images/train\nnames: [cat, dog]\n", "split-missing"),
    "no train": ("val: images/val\nnames: [cat, dog]\n", "split-missing"),
    "empty val": (TAIL.replace("images/val", ""), "split-missing"),
    "no image in val": (TAIL.replace("images/val", "labels/val"), "split-empty"),
}


@pytest.mark.parametrize(
    ("written", "fixes"),
    [
        ("/home/me/ds/images/val", ["Write 'images/val', which this archive has"]),
        ("[/a/images/val, 'D:\\b\\images\\day']", ["Write 'images/val', which", "Write 'images/day', which"]),
        ("/home/me/val.txt", ["Write 'val.txt', which this archive has"]),
        (f"{'/a' * 50_000}/images/val", ["Write 'images/val', which this archive has"]),
        ("/home/me/photos", ["Write the path from data.yaml to the images, such as 'val: images/val'"]),
        ("/home/me/", ["such as 'val: images/val'"]),
    ],
    ids=["a folder", "a list", "a list of images", "a very deep one", "a folder that is not there", "no name"],
)
def test_a_path_of_another_machine_is_refused_with_the_one_that_is_meant(
    tmp_path: Path, written: str, fixes: list[str]
) -> None:
    more = {"val.txt": "images/val/b.jpg", "images/day/c.txt": ""}
    report = check(tmp_path, good(yaml=TAIL.replace("images/val", written)) | more)
    told = [finding.message for finding in report.findings if finding.code == "yaml-path"]
    assert len(told) == len(fixes)
    assert all(fix in message for fix, message in zip(fixes, told, strict=True))


def test_a_path_of_another_machine_is_not_corrected_to_what_another_split_means(tmp_path: Path) -> None:
    """Its author would have the same images in train and in val."""
    paths = TAIL.replace("images/train", "/home/me/train/images").replace("images/val", "/home/me/val/images")
    report = check(tmp_path, good(yaml=paths))
    told = [finding.message for finding in report.findings if finding.code == "yaml-path"]
    assert len(told) == 2
    for split, message in zip(("train", "val"), told, strict=True):
        assert f"such as '{split}: images/{split}'" in message


def test_a_list_of_absolute_names_says_how_to_write_them(tmp_path: Path) -> None:
    listed = {"val.txt": "/home/me/images/val/b.jpg"}
    report = check(tmp_path, good(yaml=TAIL.replace("images/val", "val.txt")) | listed)
    (finding,) = report.findings
    assert (finding.code, finding.path, finding.line) == ("yaml-path", "val.txt", 1)
    assert "found 1 of 1 names without an image, such as '/home/me/images/val/b.jpg'" in finding.message
    assert "such as 'images/val/b.jpg'" in finding.message


@pytest.mark.parametrize(("yaml", "code"), BAD_YAML.values(), ids=BAD_YAML)
def test_a_faulty_description_gives_its_code(tmp_path: Path, yaml: Content, code: str) -> None:
    report = check(tmp_path, good(yaml=yaml))

    assert codes(report) == {code: "error"}
    assert report.model_dump_json()


@pytest.mark.parametrize("path", PATHS_OF_OTHERS)
@pytest.mark.parametrize("tail", [TAIL, TAIL.replace("/", "\\").replace("images", ".\\images")], ids=["", "Windows"])
def test_a_path_of_another_machine_is_passed_over_where_the_splits_are(tmp_path: Path, path: str, tail: str) -> None:
    """FiftyOne writes the folder that it exported to, and paths in the way of the machine that it ran on."""
    report = check(tmp_path, good(yaml=f"path: {path}\n{tail}"))
    assert codes(report) == {"yaml-path": "info"}
    assert {split: found.images for split, found in report.statistics.splits.items()} == {"train": 1, "val": 1}


@pytest.mark.parametrize("written", ["[1, 1]", "[0]", "[0, true]", "[1, 2]", "x", "{0: 1, 1: 0}"])
def test_mirrored_keypoints_name_each_keypoint_once(tmp_path: Path, written: str) -> None:
    report = check(tmp_path, good(yaml=f"kpt_shape: [2, 2]\nflip_idx: {written}\n{TAIL}"))

    (finding,) = (finding for finding in report.findings if finding.code == "yaml-invalid")
    assert "flip_idx with each number from 0 to 1 once" in finding.message


@pytest.mark.parametrize(
    "written", ["kpt_shape: [2, 2]\nflip_idx: [1, 0]", "kpt_shape: [2, 2]\nflip_idx: []", "flip_idx: x"]
)
def test_mirrored_keypoints_may_be_left_out(tmp_path: Path, written: str) -> None:
    assert "yaml-invalid" not in codes(check(tmp_path, good(yaml=f"{written}\n{TAIL}")))


def test_a_split_that_is_a_file_is_not_read_as_a_list(tmp_path: Path) -> None:
    report = check(tmp_path, good(yaml=TAIL.replace("images/val", "images/val/b.jpg")))

    assert "Expected a folder or .txt list" in report.findings[0].message


def test_a_folder_without_files_is_empty_and_not_absent(tmp_path: Path) -> None:
    report = check(tmp_path, {**good(yaml=TAIL.replace("images/val", "bare")), "bare/deep/": ""})

    assert codes(report) == {"split-empty": "error"}


def test_a_folder_that_begins_alike_is_another(tmp_path: Path) -> None:
    report = check(tmp_path, {**good(), "images/train-more/c.jpg": image()})

    assert report.statistics.splits["train"].images == 1


GOOD_YAML = {
    "no path": TAIL,
    "path is a dot": "path: .\n" + TAIL,
    "path with a slash": "path: ./\n" + TAIL,
    "path is a folder": "path: images\ntrain: train\nval: val\nnames: [cat, dog]\n",
    "Roboflow": "train: ../images/train\nval: ../images/val\nnc: 2\nnames: ['cat', 'dog']\n",
    "backslashes": "train: images\\train\nval: images\\val\nnames: [cat, dog]\n",
    "a list of folders": "train: [images/train]\nval: [images/val]\nnames: [cat, dog]\n",
    "val as valid": "train: images/train\nvalid: images/val\nnames: [cat, dog]\n",
    "val as validation": "train: images/train\nvalidation: images/val\nnames: [cat, dog]\n",
    "names by number": "train: images/train\nval: images/val\nnames: {1: dog, 0: cat}\n",
    "numbers in quotes": "train: images/train\nval: images/val\nnames: ['0', '1']\n",
    "a few aliases": "train: &t images/train\nval: images/val\nnames: [cat, dog]\nmore: [*t, *t]\n",
    "empty test": TAIL + "test:\n",
    "byte order mark": "\ufeff" + TAIL,
    "nearly 1 MiB": TAIL + "#" * (2**20 - len(TAIL) - 1),
    "task": "task: detect\n" + TAIL,
}


@pytest.mark.parametrize("yaml", GOOD_YAML.values(), ids=GOOD_YAML)
def test_the_nearest_good_description_gives_nothing(tmp_path: Path, yaml: str) -> None:
    report = check(tmp_path, good(yaml=yaml))

    assert codes(report) == {}
    assert [split.images for split in report.statistics.splits.values()] == [1, 1]
    assert report.statistics.class_names in (["cat", "dog"], ["0", "1"])


def test_a_description_that_is_a_bomb_is_refused_and_not_called_absent(tmp_path: Path) -> None:
    report = check(tmp_path, good(yaml=TAIL + "#" * 2**21))

    assert codes(report) == {"archive-too-large": "error", "yaml-invalid": "error"}


@pytest.mark.parametrize("second", ["other.yml", "sub/data.yaml"])
def test_a_second_description_is_an_error(tmp_path: Path, second: str) -> None:
    assert codes(check(tmp_path, {**good(), second: TAIL})) == {"yaml-several": "error"}


def test_other_yaml_files_below_are_none_of_our_business(tmp_path: Path) -> None:
    assert codes(check(tmp_path, {**good(), "runs/args.yaml": "a: b"})) == {}


def test_all_faults_of_a_description_are_reported(tmp_path: Path) -> None:
    yaml = "path: /x\nchannels: 4\ndownload: rm\ntrain: images/train\nval: nowhere\nnames: [a, a]\nnc: 7\n"

    assert set(codes(check(tmp_path, good(yaml=yaml)))) == {
        *("yaml-path", "yaml-executable", "yaml-names", "yaml-channels")
    }


def test_the_name_of_the_zipped_folder_is_accepted_as_path(tmp_path: Path) -> None:
    entries = good(yaml="path: coco8\n" + TAIL)
    wrapped = {f"coco8/{name}": content for name, content in entries.items()}

    assert codes(check(tmp_path, wrapped)) == {"archive-nested-root": "info"}
    assert "yaml-path" in codes(check(tmp_path, entries))


def test_an_absent_test_split_is_a_warning_and_an_unlabelled_one_an_error(tmp_path: Path) -> None:
    """Roboflow names its test folder even where the export has none; test is optional."""
    absent = check(tmp_path, good(yaml=TAIL + "test: ../test/images\n"))
    unlabelled = check(tmp_path, {**good(yaml=TAIL + "test: images/test\n"), "images/test/c.jpg": image(seed=2)})

    assert codes(absent) == {"yaml-path": "warning"}
    assert codes(unlabelled) == {"split-empty": "error"}


def layout(tmp_path: Path, entries: dict[str, Content]) -> dict[str, list[tuple[str, str | None]]]:
    path = tmp_path / "data.zip"
    path.write_bytes(zipped(entries))
    archive, findings = open_archive(path, policy())
    assert archive is not None
    with archive:
        dataset, faults = read_layout(archive)
    assert findings + faults == []
    return {key: [(sample.image, sample.label) for sample in samples] for key, samples in dataset.splits.items()}


LAYOUTS = {
    "images/x + labels/x": ("images/train/a", "labels/train/a", "images/val/b", "labels/val/b", TAIL),
    "Roboflow": (
        "train/images/a",
        "train/labels/a",
        "valid/images/b",
        "valid/labels/b",
        "train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n",
    ),
    "Roboflow, split folders": (
        "train/images/a",
        "train/labels/a",
        "valid/images/b",
        "valid/labels/b",
        "train: train\nval: valid\nnames: [cat, dog]\n",
    ),
    "flat": ("train/a", "train/a", "val/b", "val/b", "train: train\nval: val\nnames: [cat, dog]\n"),
    "flat, in folders called images": ("images/train/a", "images/train/a", "images/val/b", "images/val/b", TAIL),
    "the last images counts": (
        "images/train/images/a",
        "images/train/labels/a",
        "images/val/images/b",
        "images/val/labels/b",
        TAIL,
    ),
}


@pytest.mark.parametrize("case", LAYOUTS.values(), ids=LAYOUTS)
def test_every_known_layout_pairs_images_with_labels_and_splits(
    tmp_path: Path, case: tuple[str, str, str, str, str]
) -> None:
    train, train_label, val, val_label, yaml = case
    entries: dict[str, Content] = {
        "data.yaml": yaml,
        f"{train}.jpg": image(),
        f"{train_label}.txt": BOX,
        f"{val}.PNG": image(".png", seed=1),
        f"{val_label}.txt": BOX,
    }

    assert layout(tmp_path, entries) == {
        "train": [(f"{train}.jpg", f"{train_label}.txt")],
        "val": [(f"{val}.PNG", f"{val_label}.txt")],
    }
    assert codes(check(tmp_path, entries)) == {}


@pytest.mark.parametrize("prefix", ["", "./", "data/"])
def test_lists_name_images(tmp_path: Path, prefix: str) -> None:
    yaml = "train: train.txt\nval: lists/val.txt\nnames: [cat, dog]\n"
    lists: dict[str, Content] = {
        "train.txt": f"{prefix}images/train/a.jpg\r\n\r\n{prefix}images/train/a.jpg\r\n",
        "lists/val.txt": f"{prefix}images/val/b.jpg",
    }

    assert layout(tmp_path, {**good(yaml=yaml), **lists}) == {
        "train": [("images/train/a.jpg", "labels/train/a.txt")],
        "val": [("images/val/b.jpg", "labels/val/b.txt")],
    }
    assert codes(check(tmp_path, {**good(yaml=yaml), **lists})) == {}


@pytest.mark.parametrize("line", ["images/train/z.jpg", "/images/train/a.jpg", "../x.jpg", "labels/train/a.txt"])
def test_a_list_that_names_no_image_is_one_finding(tmp_path: Path, line: str) -> None:
    lists = {"train.txt": f"images/train/a.jpg\n{line}\n{line}\n"}
    report = check(tmp_path, {**good(yaml=TAIL.replace("images/train", "train.txt")), **lists})

    assert codes(report) == {"yaml-path": "error"}
    assert (report.findings[0].path, report.findings[0].line) == ("train.txt", 2)
    assert "2 of 3" in report.findings[0].message


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    yaml = TAIL.replace("images/train", "train.txt")

    assert codes(check(tmp_path, {**good(yaml=yaml), "train.txt": b"\xff\xfe"})) == {"yaml-path": "error"}


TREE = {"train/cat/a.jpg": image(), "train/dog/b.jpg": image(seed=1), "val/cat/c.jpg": image(seed=2)}


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_a_classification_tree_needs_no_description(tmp_path: Path, val: str) -> None:
    report = check(tmp_path, {name.replace("val/", f"{val}/"): content for name, content in TREE.items()})

    assert codes(report) == {}
    assert report.statistics.task == "classify"
    assert report.statistics.class_names == ["cat", "dog"]
    assert report.statistics.splits["train"].instances == {"cat": 1, "dog": 1}
    assert report.statistics.splits["val"].labelled == 1


def test_a_classification_tree_needs_both_splits(tmp_path: Path) -> None:
    tree = {name: content for name, content in TREE.items() if name.startswith("train")}

    assert codes(check(tmp_path, tree)) == {"split-missing": "error"}


@pytest.mark.parametrize(
    "other",
    [
        {"train/images/a.jpg": image(), "train/labels/a.txt": BOX},
        {"train/images/a.jpg": image()},
        {"train/cat/a.jpg": image(), "train/cat/a.txt": BOX},
        {"train/a.jpg": image()},
        {"train/cat/deep/a.jpg": image()},
        {"cat/a.jpg": image(), "dog/b.jpg": image(seed=1)},
    ],
)
def test_what_is_no_classification_tree_needs_a_description(tmp_path: Path, other: dict[str, bytes | str]) -> None:
    assert codes(check(tmp_path, other)) == {"yaml-missing": "error"}


def test_a_split_takes_all_folders_below_it_in_order(tmp_path: Path) -> None:
    extra = {"images/train/z/2.jpg": image(), "images/train/z/1.jpg": image()}

    assert [name for name, _ in layout(tmp_path, {**good(), **extra})["train"]] == [
        "images/train/a.jpg",
        "images/train/z/1.jpg",
        "images/train/z/2.jpg",
    ]


FORMS = {"composed": "\u00fcbung", "decomposed": "u\u0308bung"}


@pytest.mark.parametrize("in_zip", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("in_yaml", FORMS.values(), ids=FORMS)
def test_names_are_compared_in_one_unicode_form(tmp_path: Path, in_zip: str, in_yaml: str) -> None:
    entries = good(yaml=TAIL.replace("images/val", f"{in_yaml}/images"))
    entries[f"{in_zip}/images/\u00e9.jpg"] = entries.pop("images/val/b.jpg")
    entries[f"{in_zip}/labels/e\u0301.txt"] = entries.pop("labels/val/b.txt")

    assert codes(check(tmp_path, entries)) == {}


def test_names_in_utf_8_without_the_flag_that_says_so(tmp_path: Path) -> None:
    """macOS writes them."""
    entries = good(yaml=TAIL.replace("images/val", "\u00fcbung"))
    entries["\u00fcbung/b.jpg"] = entries.pop("images/val/b.jpg")
    entries["\u00fcbung/b.txt"] = entries.pop("labels/val/b.txt")
    data = bytearray(zipped(entries))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(signature), bytes(data)):
            data[found.start() + flags + 1] &= ~8

    assert codes(check(tmp_path, bytes(data))) == {}


def test_a_list_may_name_images_that_training_does_not_read(tmp_path: Path) -> None:
    yaml = "train: train.txt\nval: images/val\nnames: [cat, dog]\n"
    entries = {**good(yaml=yaml), "train.txt": "images/train/a.jpg\nimages/train/c.heic", "images/train/c.heic": b"x"}

    assert codes(check(tmp_path, entries)) == {"image-format": "warning"}


@pytest.mark.timeout(20)
def test_one_list_in_many_spellings_is_read_once(tmp_path: Path) -> None:
    spellings = [f"{'./' * times}train.txt" for times in range(900)]
    yaml = f"train: {spellings}\nval: images/val\nnames: [cat, dog]\n"
    lines = "images/train/a.jpg\n" * 20_000

    assert codes(check(tmp_path, {**good(yaml=yaml), "train.txt": lines})) == {}


@pytest.mark.parametrize("place", ["/images/test", "../../images/test", "~/test"])
def test_a_test_split_outside_of_the_archive_is_an_error(tmp_path: Path, place: str) -> None:
    assert codes(check(tmp_path, good(yaml=TAIL + f"test: {place}\n"))) == {"yaml-path": "error"}


def test_a_yaml_file_that_describes_no_dataset_is_none_of_our_business(tmp_path: Path) -> None:
    assert codes(check(tmp_path, {**good(), "args.yaml": "lr0: 0.01"})) == {}
    assert codes(check(tmp_path, {**good(), "more.yaml": TAIL})) == {"yaml-several": "error"}


def test_images_of_one_name_in_a_classification_tree_share_no_label(tmp_path: Path) -> None:
    tree: dict[str, Content] = {
        "train/cat/a.jpg": image(),
        "train/cat/a.png": image(".png", seed=1),
        "val/cat/b.jpg": image(seed=2),
    }

    assert codes(check(tmp_path, tree)) == {}
