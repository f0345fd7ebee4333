"""Every code: the smallest archive that shows it, and the nearest one that must not.

All start from `sound`, a dataset without a single finding, so a row says only what is wrong with it.
"""

import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tasks.dataset.findings import Report, Verdict
from tasks.dataset.label_origins import LABEL_ORIGINS, Origin
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset
from tests.benchmarks.archives import encode
from tests.tasks.dataset.archives import zipped
from tests.tasks.validation.sound import (
    BARE,
    BMP,
    BOX,
    LABEL,
    NEW,
    NEW_LABEL,
    PNG,
    SQUARE,
    TASKS,
    YAML,
    Entries,
    blurred,
    by_model,
    cats_only,
    copied,
    described,
    encrypted,
    holed,
    jpeg,
    large,
    listed,
    made,
    many,
    misnamed,
    moved,
    named,
    nested,
    new,
    of_mode,
    oriented,
    picture,
    pillow,
    png,
    renamed,
    rows,
    shaded,
    shrunk,
    sound,
    training,
    tree,
    twins,
    val_labels,
    with_test,
)


class Row(NamedTuple):
    code: Code
    severity: str
    what: str
    shows: bytes | Entries
    hides: bytes | Entries
    policy: Mapping[str, Any] = {}


Table = dict[tuple[Code, str], dict[str, tuple[Any, ...]]]
SIZE = sum(len(content or "") for content in sound().values())
TRAINED = by_model("images/train/0.jpg")
STORED = zipped(sound({"a.md": bytes(2**21)}, label="0 0.123 0.5 0.1 0.1"), zipfile.ZIP_STORED)
REMARK = zipped(sound({"NOTES.md": "all is well"}), zipfile.ZIP_STORED)
ALIASES = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
AWAY = YAML.replace("images/", "pictures/")
BIRDS = YAML.replace("dog]", "dog, bird]")
ARCHIVE: Table = {
    (Code.ARCHIVE_UNREADABLE, "error"): {
        "no zip": (b"Rar!", sound()),
        "cut short": (zipped(sound())[:-30], zipped(sound())),
        "bad checksum": (STORED.replace(b"0.123", b"0.124"), STORED),
        "bad checksum of a file that no rule reads": (REMARK.replace(b"well", b"hell"), REMARK),
        "encrypted": (encrypted(1), encrypted(0)),
    },
    (Code.ARCHIVE_UNSAFE_PATH, "error"): {
        "absolute": (sound({"/docs/a.md": ""}), sound({"docs/a.md": ""})),
        "parent": (sound({"docs/../../a.md": ""}), sound({"docs/..a..b../a.md": ""})),
        "parent, backslashes": (sound({"docs\\..\\a.md": ""}), sound({"docs\\a.md": ""})),
        "drive": (sound({"C:/a.md": ""}), sound({"C/a.md": ""})),
        "link": (of_mode(stat.S_IFLNK | 0o777), of_mode(stat.S_IFREG | 0o777)),
        "device": (of_mode(stat.S_IFCHR | 0o600), of_mode(0)),
        "NUL": (misnamed(b"one.md", b"on\0.md"), misnamed(b"one.md", b"on0.md")),
    },
    (Code.ARCHIVE_TOO_LARGE, "error"): {
        "entries": (sound({"a.md": ""}), sound(), {"max_entries": len(sound())}),
        "bytes": (sound({"a.md": "x"}), sound({"a.md": ""}), {"max_bytes": SIZE}),
        "ratio": (sound({"a.md": bytes(2**21)}), STORED),
        "ratio of all together": (
            sound({f"{number}.md": bytes(2**20 - 1) for number in range(30)}),
            sound({f"{number}.md": bytes(2**20 - 1) for number in range(3)}),
        ),
        "entries that overlap": (moved("two.md", "one.md"), moved("two.md", "two.md")),
    },
    (Code.ARCHIVE_DUPLICATE_ENTRY, "error"): {
        "same name": (misnamed(b"one.md", b"two.md"), misnamed(b"one.md", b"six.md")),
        "case": (sound({"docs/a.md": "", "docs/A.md": ""}), sound({"docs/a.md": "", "Docs/b.md": ""})),
        "Unicode form": (sound({"\u00e9.md": "", "e\u0301.md": ""}), sound({"\u00e9.md": "", "e.md": ""})),
    },
    (Code.ARCHIVE_NESTED_ROOT, "info"): {"one folder": (nested({}), nested({"README.md": ""}))},
    (Code.ARCHIVE_JUNK, "info"): {
        junk: (sound({junk: "x"}), sound({innocent: "x"}))
        for junk, innocent in {
            "__MACOSX/a.md": "MACOSX/a.md",
            "images/.DS_Store": "images/DS_Store.md",
            "images/Thumbs.db": "images/Thumbs.md",
            "labels.cache": "labels.cache.md",
            "more.zip": "more.zip.md",
        }.items()
    },
    (Code.ARCHIVE_JUNK, "warning"): {
        "hidden image": (sound({"docs/.a.jpg": ""}), sound({"docs/a.jpg.md": ""})),
    },
    (Code.ARCHIVE_NAMES, "warning"): {
        "Shift JIS": (misnamed(b"one.md", "写a.md".encode("cp932")), misnamed(b"one.md", "éa.md".encode())),
    },
}

DESCRIPTION: Table = {
    (Code.YAML_MISSING, "error"): {"none": (sound({"data.yaml": None}), tree())},
    (Code.YAML_SEVERAL, "error"): {"two": (sound({"old/data.yaml": YAML}), sound({"old/data.yaml.md": YAML}))},
    (Code.YAML_INVALID, "error"): {
        "no YAML": (described(f"{YAML}x: [1"), described(f"{YAML}x: [1]")),
        "no mapping": (described("- train"), sound()),
        "alias bomb": (described(YAML + ALIASES), described(f"{YAML}a: &a [x]\nb: [*a, *a]")),
        "over 1 MiB": (
            described(YAML + "#" * (2**20 + 1 - len(YAML))),
            described(YAML + "#" * (2**20 - len(YAML))),
            {"max_ratio": 1e6},
        ),
    },
    (Code.YAML_EXECUTABLE, "error"): {
        "line": (described(f"{YAML}download: x"), described(f"{YAML}# download: x\n")),
        "block": (described(f"{YAML}download: |\n  import os"), described(f"{YAML}info:\n  download: x\n")),
    },
    (Code.YAML_NAMES, "error"): {
        names: (named(names), named(innocent))
        for names, innocent in {
            "": "names: [cat, dog]",
            "names: []": "names: [cat, dog]",
            "names: [cat, cat]": "names: [cat, cats]",
            "names: [1, 2]": "names: ['1', '2']",
            "names: [yes, no]": "names: ['yes', 'no']",
            "names: {1: cat, 2: dog}": "names: {0: cat, 1: dog}",
            "names: {0: cat, 2: dog}": "names: {1: dog, 0: cat}",
            "names: {'0': cat, '1': dog}": "names: {0: cat, 1: dog}",
            "nc: 3\nnames: [cat, dog]": "nc: 2\nnames: [cat, dog]",
        }.items()
    },
    (Code.YAML_PATH, "error"): {
        "path: /mine": (described(f"path: /mine\n{AWAY}"), described(f"path: .\n{YAML}")),
        "path: ../mine": (described(f"path: ../mine\n{AWAY}"), described(f"path: ./\n{YAML}")),
        "path: C:": (described(f"path: C:\\mine\n{AWAY}"), described(f"path:\n{YAML}")),
        "/images/train": (training("/images/train"), training("images/train")),
        "../../images/train": (training("../../images/train"), training("../images/train")),
        "images/trian": (training("images/trian"), training("./images/train/")),
        "list": (listed("images/train/absent.jpg\n"), listed("./images/train/0.jpg\n")),
    },
    # Roboflow names a test folder also where there is none.
    (Code.YAML_PATH, "warning"): {"test": (described(f"{YAML}test: images/test"), described(f"{YAML}test:\n"))},
    # FiftyOne writes where it exported to.
    (Code.YAML_PATH, "info"): {"path": (described(f"path: /mine\n{YAML}"), described(f"path: .\n{YAML}"))},
    (Code.YAML_CHANNELS, "warning"): {"grey": (described(f"{YAML}channels: 1"), described(f"{YAML}channels: 3"))},
    (Code.YAML_CHANNELS, "error"): {
        "more than colours": (described(f"{YAML}channels: 10"), described(f"{YAML}channels: 3")),
        "no number": (described(f"{YAML}channels: RGB"), described(f"{YAML}channels:")),
    },
}

SPLITS: Table = {
    (Code.SPLIT_MISSING, "error"): {
        "train": (described(YAML.replace("train:", "training:")), described(f"{YAML}test:\n")),
        "val": (described(YAML.replace("val:", "values:")), described(YAML.replace("val:", "validation:"))),
        "of a tree": (renamed(tree(), "val/", "other/"), renamed(tree(), "val/", "validation/")),
    },
    (Code.SPLIT_EMPTY, "error"): {
        "no image": (
            sound({"data.yaml": YAML.replace("images/val", "images/none"), "images/none/": ""}),
            sound({"images/none/": ""}),
        ),
        "no label file": (val_labels((5, 6, 7), None), val_labels((5, 6), None)),
        "no label": (val_labels((5, 6, 7), "\n"), val_labels((5, 6), "\n")),
    },
    (Code.SPLIT_LEAK, "error"): {
        "same bytes": (new(jpeg(), other=jpeg()), new(jpeg(), other=jpeg(51))),
        "same pixels": (
            sound({"images/train/new.png": PNG, "images/val/other.bmp": BMP}),
            sound({"images/train/new.png": PNG, "images/train/other.bmp": BMP}),
        ),
        "in test": (with_test(0), with_test(50)),
    },
    (Code.SPLIT_LEAK, "warning"): {"near": (new(jpeg(), other=jpeg(quality=60)), twins(jpeg(), jpeg(quality=60)))},
}

IMAGES: Table = {
    (Code.IMAGE_UNREADABLE, "error"): {
        "cut in half": (new(jpeg()[: len(jpeg()) // 2]), new(jpeg())),
        "without its end": (new(jpeg()[:-2]), new(jpeg())),
        "bytes lost in the middle": (new(holed(large())), new(large())),
        "a mark in the middle": (new(holed(jpeg(), b"\xff\xbf" * 100)), new(jpeg())),
        "PNG damaged in the middle": (
            sound({"images/train/new.png": holed(PNG, bytes(200))}),
            sound({"images/train/new.png": PNG}),
        ),
        "not what the ending says": (new(PNG), sound({"images/train/new.png": PNG})),
        "text": (new(b"<html>"), sound({"images/train/new.html": "<html>"})),
        "nothing": (new(b""), new(jpeg())),
    },
    (Code.IMAGE_FORMAT, "warning"): {
        "GIF": (sound({"images/train/a.gif": pillow("GIF")}), sound({"images/train/a.webp": pillow("WEBP")}))
    },
    (Code.IMAGE_TOO_SMALL, "error"): {"9 pixels": (new(encode(picture(50, 9, 40))), new(encode(picture(50, 10, 40))))},
    (Code.IMAGE_EXIF_ROTATED, "warning"): {
        "a quarter": (new(oriented(6)), new(oriented(1))),
        "half": (new(oriented(3)), tree({"train/cat/new.jpg": oriented(3)})),
        "mirrored": (new(oriented(2)), new(jpeg())),
    },
    (Code.IMAGE_DUPLICATE, "warning"): {
        "same bytes": (new(jpeg(0)), new(jpeg())),
        "packed tighter": (twins(png(50, 1), png(50, 9), ".png"), twins(png(50, 1), png(51, 9), ".png")),
        "same pixels": (
            sound({"images/train/new.png": PNG, "images/train/other.bmp": BMP}),
            sound({"images/train/new.png": PNG, "images/train/other.bmp": encode(picture(51), ".bmp")}),
        ),
    },
    (Code.IMAGE_NEAR_DUPLICATE, "warning"): {
        "packed anew": (twins(jpeg(), jpeg(quality=60)), twins(jpeg(), jpeg())),
        "made smaller": (new(shrunk(0)), new(shrunk(50))),
    },
    (Code.IMAGE_QUALITY, "info"): {
        "dark": (new(shaded(0.97, 0)), new(shaded(0.4, 0))),
        "bright": (new(shaded(0.97, 255)), new(shaded(0.4, 255))),
        "blurred": (new(blurred(8)), new(blurred(0.4))),
        "little information": (new(encode(np.full((72, 96, 3), 128, np.uint8))), new(jpeg())),
        "odd size": (new(encode(picture(50, 1920, 1440))), new(encode(picture(50, 128, 96)))),
        "odd shape": (new(encode(picture(50, 480, 20))), new(encode(picture(50, 120, 60)))),
    },
    (Code.IMAGE_UNLABELLED, "warning"): {
        "9 of 17": (sound(BARE), sound({**BARE, "images/train/x60.jpg": None})),
        "1 of 9": (new(jpeg()), sound({NEW: jpeg(), NEW_LABEL: ""}), {"max_unlabelled_share": 0.1}),
    },
    (Code.IMAGE_NO_SPLIT, "warning"): {
        "in another folder": (
            sound({"images/more/a.jpg": jpeg(), "labels/more/a.txt": BOX}),
            sound({"images/more/a.jpg": jpeg()}),
        ),
        "of a list": (
            sound({**listed(), NEW: jpeg(), NEW_LABEL: BOX}),
            sound({**listed(f"{NEW}\n"), NEW: jpeg(), NEW_LABEL: BOX}),
        ),
        "of a tree": (tree({"more/cat/a.jpg": jpeg()}), tree({"more/a.jpg": jpeg()})),
    },
}

LABEL_FILES: Table = {
    (Code.LABEL_ORPHAN, "warning"): {
        "no image": (sound({NEW_LABEL: BOX}), sound({NEW_LABEL: BOX, NEW: jpeg()})),
        "text": (sound({"labels/train/cat.txt": BOX}), sound({"labels/classes.txt": "cat", "cat.txt": "cat"})),
    },
    (Code.LABEL_AMBIGUOUS, "error"): {
        "two endings": (sound({"images/train/0.png": PNG}), sound({"images/val/0.png": PNG}))
    },
    (Code.LABEL_ENCODING, "error"): {
        "Latin-1": (sound({LABEL: BOX.encode() + b"\xe9"}), sound({LABEL: b"\xef\xbb\xbf" + BOX.encode()})),
        "UTF-16": (sound({LABEL: BOX.encode("utf-16")}), sound({LABEL: BOX.encode()})),
    },
}

# Lines that show a code, each with one that does not.
LINES: dict[tuple[Code, str, str], dict[str, str]] = {
    (Code.LABEL_COLUMNS, "error", "detect"): {
        "0 0.5 0.5 0.2": "0 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 0.2 0.2 0.9": "0\t0.5  0.5 0.2 0.2  ",
        f"0 {SQUARE}": "",
    },
    (Code.LABEL_COLUMNS, "error", "segment"): {
        "0 0.5 0.5 0.2 0.2": "0 0.1 0.1 0.5 0.1 0.5 0.5",
        "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1": f"0 {SQUARE}",
    },
    (Code.LABEL_COLUMNS, "error", "pose"): {
        "0 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4": "0 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4 1",
        "0 0.5 0.5 0.2 0.2": "0 0.5 0.5 0.2 0.2 0 0 0 0 0 0",
    },
    (Code.LABEL_COLUMNS, "error", "obb"): {
        "0 0.1 0.1 0.5 0.1 0.5 0.5": f"0 {SQUARE}",
        f"0 {SQUARE} 0.1 0.5": f"0 {SQUARE}",
    },
    (Code.LABEL_NUMBER, "error", "detect"): {
        "0 half 0.5 0.2 0.2": "0 +.5 5e-1 0.2 0.2",
        "0 nan 0.5 0.2 0.2": "0 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 inf 0.2": "0 0.5 0.5 1 0.2",
        "0.5 0.5 0.5 0.2 0.2": "1 0.5 0.5 0.2 0.2",
        "1.000000000000000000e-01 0.5 0.5 0.2 0.2": "1.000000000000000000e+00 0.5 0.5 0.2 0.2",
        "cat 0.5 0.5 0.2 0.2": "0 0.5 0.5 0.2 0.2",
        "0 0x1 0.5 0.2 0.2": "0 01 0.5 0.2 0.2",
        "0 0,5 0.5 0.2 0.2": "0 0.5 0.5 0.2 0.2",
    },
    (Code.LABEL_NUMBER, "error", "segment"): {"0 0.1 0.1 0.5 nan 0.5 0.5": "0 0.1 0.1 0.5 0.1 0.5 0.5"},
    (Code.LABEL_CLASS, "error", "detect"): {
        "2 0.5 0.5 0.2 0.2": "1 0.5 0.5 0.2 0.2",
        "-1 0.5 0.5 0.2 0.2": "0 0.5 0.5 0.2 0.2",
    },
    (Code.LABEL_CLASS, "error", "segment"): {f"2 {SQUARE}": f"1 {SQUARE}"},
    (Code.LABEL_RANGE, "error", "detect"): {
        "0 1.02 0.5 0.2 0.2": "0 1.005 0.5 0.2 0.2",
        "0 0.5 -0.02 0.2 0.2": "0 0.5 -0.005 0.2 0.2",
        "0 320 240 64 48": "0 0.5 0.5 1 1",
    },
    (Code.LABEL_RANGE, "error", "segment"): {"0 0.1 0.1 1.02 0.1 0.5 0.5": "0 0.1 0.1 1.005 0.1 0.5 0.5"},
    (Code.LABEL_RANGE, "error", "pose"): {
        "0 0.5 0.5 0.2 0.2 1.5 0.5 2 0.4 0.4 1": "0 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4 1"
    },
    (Code.LABEL_RANGE, "error", "obb"): {"0 0.2 0.2 1.2 0.2 0.8 0.8 0.2 0.8": f"0 {SQUARE}"},
    (Code.LABEL_OUTSIDE, "warning", "detect"): {
        "0 0.95 0.5 0.13 0.2": "0 0.95 0.5 0.11 0.2",
        "0 0.5 0.05 0.2 0.13": "0 0.5 0.05 0.2 0.11",
    },
    (Code.LABEL_OUTSIDE, "warning", "pose"): {
        "0 0.95 0.5 0.2 0.2 0.9 0.5 2 0.9 0.4 1": "0 0.9 0.5 0.2 0.2 0.9 0.5 2 0.9 0.4 1"
    },
    (Code.LABEL_DEGENERATE, "error", "detect"): {
        "0 0.5 0.5 0 0.2": "0 0.5 0.5 0.01 0.2",
        "0 0.5 0.5 0.2 -0.2": "0 0.5 0.5 0.2 0.2",
    },
    (Code.LABEL_DEGENERATE, "error", "segment"): {"0 0.1 0.1 0.5 0.5 0.9 0.9": "0 0.1 0.1 0.5 0.6 0.9 0.9"},
    (Code.LABEL_DEGENERATE, "warning", "segment"): {
        "0 0.1 0.1 0.5 0.5 0.5 0.1 0.1 0.5": "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5",
        "0 0.2 0.2 0.8 0.7 0.8 0.2 0.2 0.9": "0 0.2 0.2 0.8 0.2 0.8 0.7 0.2 0.9",
    },
    (Code.LABEL_DUPLICATE, "warning", "detect"): {BOX * 2: BOX + BOX.replace("0", "1", 1)},
    (Code.LABEL_DUPLICATE, "warning", "segment"): {f"0 {SQUARE}\n" * 2: f"0 {SQUARE}\n1 {SQUARE}"},
    (Code.LABEL_OVERLAP, "warning", "detect"): {
        f"{BOX}0 0.5 0.5 0.2 0.292": f"{BOX}0 0.5 0.5 0.2 0.27",
        f"{BOX}0 0.502 0.5 0.2 0.3": f"{BOX}1 0.502 0.5 0.2 0.3",
        f"{BOX}0 0.5 0.502 0.2 0.3": BOX * 2,
    },
    (Code.LABEL_TINY, "info", "detect"): {
        "0 0.5 0.5 0.0028 0.2": "0 0.5 0.5 0.0035 0.2",
        "0 0.5 0.5 0.2 0.0037": "0 0.5 0.5 0.2 0.0046",
    },
    (Code.LABEL_HUGE, "info", "detect"): {"0 0.5 0.5 0.995 0.995": "0 0.5 0.5 0.985 0.985"},
    (Code.LABEL_KEYPOINT, "warning", "pose of two"): {
        "0 0.5 0.5 0.2 0.2 0 0 0.4 0.4": "0 0.5 0.5 0.2 0.2 0 0.1 0.4 0.4",
        "0 0.5 0.5 0.2 0.2 0.4 0.4 0.0 0.0": "0 0.5 0.5 0.2 0.2 0.4 0.4 0.4 0.0",
    },
    (Code.LABEL_OUTLINE, "info", "declared"): {f"0 {SQUARE}": "0 0.5 0.5 0.2 0.2"},
    (Code.LABEL_HUGE, "info", "segment"): {"0 0 0 1 0 1 1 0 1": "0 0 0 0.9 0 1 1 0 1"},
}
LABELS = [
    Row(code, severity, f"{task}: {bad}", sound(task=task, label=bad), sound(task=task, label=good))
    for (code, severity, task), lines in LINES.items()
    for bad, good in lines.items()
]

CLASSES: Table = {
    (Code.CLASS_UNUSED, "warning"): {
        "bird": (described(BIRDS), sound({"data.yaml": BIRDS}, label="2 0.5 0.5 0.2 0.2"))
    },
    (Code.CLASS_FEW, "warning"): {
        "9 in train": (sound({LABEL: rows(0, classes="0001")}), sound()),
        "10 of 11": (sound(), sound(label=f"{BOX}1 0.3 0.3 0.2 0.2"), {"min_class_instances": 11}),
        "a tree": (tree({"train/cat/1.jpg": None}), tree()),
    },
    (Code.CLASS_IMBALANCE, "warning"): {
        "over 50": (many(1000), many(400)),
        "over 3": (many(100), many(10), {"max_class_ratio": 3}),
    },
    (Code.CLASS_SPLIT, "warning"): {
        "not in val": (val_labels((5, 6, 7), BOX), val_labels((5, 6), BOX)),
        "not in train": (cats_only(range(5)), cats_only(range(4))),
        "a tree": (renamed(tree(), "val/cat", "val/dog"), renamed(tree(), "val/cat/21", "val/dog/21")),
    },
    (Code.CLASS_ORDER, "warning"): {
        "classes.txt": (sound({"labels/classes.txt": "dog\ncat\n"}), sound({"labels/classes.txt": "Cat\r\ndog\n"})),
        "obj.names": (sound({"obj.names": "ox\ncat\ndog"}), sound({"obj.names": "cat\nwolf\nox"})),
        "notes.json": (
            sound({"notes.json": '{"categories": [{"id": 1, "name": "cat"}, {"id": 0, "name": "dog"}]}'}),
            sound({"notes.json": '{"categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}]}'}),
        ),
        "not to be read": (
            sound({"classes.txt": "dog\ncat\n"}),
            sound(
                {
                    "classes.txt": b"dog\ncat\xff",
                    "notes.json": '{"categories": [1, []]}',
                    "labels/notes.json": "[" * 9999,
                }
            ),
        ),
    },
    (Code.OUTLIER_BOX, "info"): {
        "size": (many(100, "0 0.5 0.5 0.9 0.9\n"), many(100, "0 0.5 0.5 0.205 0.2\n")),
        "shape": (many(100, "0 0.5 0.5 0.8 0.05\n"), many(100, "0 0.5 0.5 0.2 0.205\n")),
    },
}


def first_rows(seed: int, count: int) -> str:
    return "".join(rows(seed).splitlines(keepends=True)[:count])


ORIGINS: Table = {
    (Code.LABEL_ORIGINS_BROKEN, "error"): {
        "no table": (sound({LABEL_ORIGINS: "PAR1"}), sound({f"not-{LABEL_ORIGINS}": "PAR1"})),
        "in a folder": (sound({f"more/{LABEL_ORIGINS}": "PAR1"}), made([TRAINED])),
        "more rows than labels": (made([TRAINED] * 500), made([TRAINED])),
        "an image that is not there": (made([by_model("images/train/9.jpg")]), made([by_model("images/train/4.jpg")])),
        "a label that is not there": (made([by_model(TRAINED.image, row=4)]), made([by_model(TRAINED.image, row=3)])),
        "a label of no row": (made([by_model(TRAINED.image, row=-1)]), made([by_model(TRAINED.image, row=None)])),
        "a label twice": (made([TRAINED, TRAINED]), made([TRAINED, by_model(TRAINED.image, row=1)])),
        "an image twice": (made([by_model(TRAINED.image, row=None)] * 2), made([by_model(TRAINED.image, row=None)])),
        "a confidence": (
            made([by_model(TRAINED.image, confidence=1.1)]),
            made([by_model(TRAINED.image, confidence=1)]),
        ),
        "a version": (made([by_model(TRAINED.image, model_version=0)]), made([TRAINED])),
        "a model": (made([by_model(TRAINED.image, model_name="<b>")]), made([TRAINED])),
        "a run": (made([by_model(TRAINED.image, flow_run_id="../x")]), made([TRAINED])),
    },
    (Code.PSEUDO_LABELS, "info"): {"a label": (made([TRAINED]), made([replace(TRAINED, origin=Origin.ACCEPTED)]))},
    (Code.PSEUDO_LABELS_OUTSIDE_TRAIN, "error"): {
        "val": (made([by_model("images/val/5.jpg")]), made([by_model("images/train/0.jpg")])),
        "background": (
            made([by_model("images/val/5.jpg", row=None)]),
            made([by_model("images/val/5.jpg", row=None, origin=Origin.ACCEPTED)]),
        ),
        "a copy of another quality, with the labels of the model": (
            made([TRAINED], copied(jpeg(0, 70), rows(0))),
            made([TRAINED], copied(jpeg(0, 70), rows(9))),
        ),
        "a copy that nobody has looked at": (
            made([TRAINED], copied(jpeg(0, 70), rows(0))),
            made(
                [TRAINED, by_model("images/val/copy.jpg", row=None, origin=Origin.ACCEPTED)],
                copied(jpeg(0, 70), rows(0)),
            ),
        ),
        "the labels of the model at another picture": (
            made([TRAINED], copied(jpeg(60), rows(0))),
            made([TRAINED], copied(jpeg(60), rows(0, classes="1100"))),
        ),
        "half of the labels of the model": (
            made([TRAINED], copied(jpeg(60), first_rows(0, 2) + first_rows(9, 2))),
            made([TRAINED], copied(jpeg(60), first_rows(0, 1) + first_rows(9, 3))),
        ),
        "a copy with more than a box around the whole image": (
            made([TRAINED], copied(jpeg(0, 70), rows(0))),
            made([TRAINED], copied(jpeg(0, 70), "0 0.5 0.5 1 1\n") | {LABEL: "0 0.5 0.5 1 1\n"}),
        ),
    },
}

TABLES = (ARCHIVE, DESCRIPTION, SPLITS, IMAGES, LABEL_FILES, CLASSES, ORIGINS)
ROWS = LABELS + [
    Row(code, severity, what, *case)
    for table in TABLES
    for (code, severity), cases in table.items()
    for what, case in cases.items()
]
each_row = pytest.mark.parametrize("row", ROWS, ids=[f"{row.code} {row.what}" for row in ROWS])


def check(tmp_path: Path, archive: bytes | Entries, **policy: Any) -> Report:
    path = tmp_path / "data.zip"
    path.write_bytes(archive if isinstance(archive, bytes) else zipped(archive))
    return inspect_dataset(path, path.name, "0" * 64, ValidationPolicy.model_validate(policy)).report


@each_row
def test_the_smallest_faulty_archive_shows_its_code(tmp_path: Path, row: Row) -> None:
    report = check(tmp_path, row.shows, **row.policy)
    assert {finding.severity for finding in report.findings if finding.code == row.code} == {row.severity}
    assert (report.verdict is Verdict.INVALID) == ("error" in {finding.severity for finding in report.findings})


@each_row
def test_the_nearest_archive_does_not_show_the_code(tmp_path: Path, row: Row) -> None:
    assert [finding for finding in check(tmp_path, row.hides, **row.policy).findings if finding.code == row.code] == []


@pytest.mark.parametrize("reason", IMAGES[Code.IMAGE_QUALITY, "info"])
def test_the_quality_of_an_image_is_reported_with_its_reason(tmp_path: Path, reason: str) -> None:
    shows, *_ = IMAGES[Code.IMAGE_QUALITY, "info"][reason]
    (finding,) = [finding for finding in check(tmp_path, shows).findings if finding.code == Code.IMAGE_QUALITY]
    assert reason in finding.message
    assert finding.path == NEW


def test_every_code_has_a_row_of_each_severity() -> None:
    said = {(code, word) for code in Code for word in re.findall(r"error|warning|info", code.severity)}
    shown_elsewhere = {(Code.ARCHIVE_NAMES, "error")}  # tests/tasks/dataset/test_zip_names.py
    assert {(row.code, row.severity) for row in ROWS} == said - shown_elsewhere


@pytest.mark.parametrize("archive", [*(sound(task=task) for task in TASKS), tree(), listed()])
def test_a_sound_dataset_has_no_finding(tmp_path: Path, archive: Entries) -> None:
    """The start of all rows: a finding of theirs is the row's own."""
    assert check(tmp_path, archive).findings == []


def test_pixels_in_a_label_file_are_one_finding_with_their_count(tmp_path: Path) -> None:
    report = check(tmp_path, sound({LABEL: "".join(f"0 {x} 240 64 48\n" for x in range(100, 137))}))

    (finding,) = [finding for finding in report.findings if finding.code == Code.LABEL_RANGE]
    assert (finding.path, finding.severity) == (LABEL, "error")
    assert "37 " in finding.message
    assert "pixels" in finding.message


TINY = sound(label="0 0.5 0.5 0.0028 0.2")


def test_the_training_size_decides_what_is_tiny(tmp_path: Path) -> None:
    assert Code.LABEL_TINY in check(tmp_path, TINY, imgsz=640).counts
    assert Code.LABEL_TINY not in check(tmp_path, TINY, imgsz=1280).counts


ORPHAN = sound({NEW_LABEL: BOX})


@pytest.mark.parametrize(
    ("policy", "severities", "verdict"),
    [
        ({}, ["warning"], Verdict.VALID_WITH_WARNINGS),
        ({"raise_to_error": [Code.LABEL_ORPHAN]}, ["error"], Verdict.INVALID),
        ({"raise_to_error": [Code.CLASS_FEW]}, ["warning"], Verdict.VALID_WITH_WARNINGS),
        ({"ignore": [Code.LABEL_ORPHAN]}, [], Verdict.VALID),
        ({"ignore": [Code.CLASS_FEW]}, ["warning"], Verdict.VALID_WITH_WARNINGS),
        ({"raise_to_error": [Code.LABEL_ORPHAN], "ignore": [Code.LABEL_ORPHAN]}, ["error"], Verdict.INVALID),
    ],
)
def test_a_policy_raises_and_ignores_warnings(
    tmp_path: Path, policy: dict[str, Any], severities: list[str], verdict: Verdict
) -> None:
    report = check(tmp_path, ORPHAN, **policy)

    assert [finding.severity for finding in report.findings] == severities
    assert report.verdict is verdict


def test_notes_are_raised_and_ignored_too(tmp_path: Path) -> None:
    assert check(tmp_path, TINY, ignore=[Code.LABEL_TINY]).findings == []
    assert check(tmp_path, TINY, raise_to_error=[Code.LABEL_TINY]).verdict is Verdict.INVALID


def test_an_error_is_never_ignored(tmp_path: Path) -> None:
    """split-leak is an error for the same image and a warning for nearly the same: only the warning goes."""
    leak, near = (new(jpeg(), other=jpeg(quality=quality)) for quality in (95, 60))
    ignore = [Code.SPLIT_LEAK, Code.IMAGE_DUPLICATE, Code.IMAGE_NEAR_DUPLICATE]

    report = check(tmp_path, leak, ignore=ignore)

    assert {(finding.code, finding.severity) for finding in report.findings} == {(Code.SPLIT_LEAK, "error")}
    assert check(tmp_path, near, ignore=ignore).findings == []
