"""The report page: as text, as pictures, and in a real browser where one is installed."""

import base64
import hashlib
import html
import io
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.dataset.archive import ArchiveError
from tasks.dataset.findings import Finding, Report, Severity, SplitStatistics, Statistics
from tasks.dataset.image_stats import ImageStats
from tasks.dataset.label_origins import pack_label_origins, unpack_label_origins
from tasks.dataset.layout import Dataset, LabelledImage
from tasks.finding_codes import Code
from tasks.rendering.palette import css_colour
from tasks.validation.label_table import LabelTable
from tasks.validation.report.groups import sanitize_text
from tasks.validation.report.html import render_report
from tasks.validation.report.images import MAX_FAULTY, SAMPLES
from tests.infra.browser import CHROMIUM
from tests.tasks.dataset.archives import huge_png, image
from tests.tasks.validation.sound import by_model

HOSTILE = (
    "</title></style><script>document.title='pwned'</script><img src=x onerror=\"a()\">'\"&{{7*7}}\u202egpj\udcff.exe"
)
COLUMNS = ("label", "line", "class_id", "x", "y", "width", "height", "corners")


def table(rows: Sequence[tuple[Any, ...]] = ()) -> LabelTable:
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype({"label": "category"})
    return LabelTable(task="detect" if rows else None, rows=frame, written={})


def error(code: Code, message: str, **place: Any) -> Finding:
    return Finding(code=code, severity=Severity.ERROR, message=message, **place)


def warning(code: Code, message: str, **place: Any) -> Finding:
    return Finding(code=code, severity=Severity.WARNING, message=message, **place)


def traits(width: int, height: int) -> ImageStats:
    return ImageStats(width, height, *[None] * (len(ImageStats._fields) - 2))  # type: ignore[arg-type]


def plain_image(width: int = 320, height: int = 200) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), (40, 80, 160), np.uint8))[1].tobytes()


def dataset(entries: Mapping[str, bytes], names: Sequence[str] = ("cat", "dog"), task: str = "detect") -> Dataset:
    """All images of `entries` in one split, each with the label `NAME.txt` where there is one."""
    labels = {
        name: label if (label := f"{name}.txt") in entries else None for name in entries if not name.endswith(".txt")
    }
    return Dataset(
        class_names=tuple(names),
        splits={"train": tuple(LabelledImage(*pair) for pair in labels.items())} if labels else {},
        task=task,
        labels=labels,
    )


def page_of(
    *findings: Finding,
    entries: Mapping[str, bytes] | None = None,
    names: Sequence[str] = ("cat", "dog"),
    task: str = "detect",
    **report: Any,
) -> str:
    entries = entries or {}
    found = dataset(entries, names, task)
    splits = {"train": SplitStatistics(images=len(found.labels), labelled=0, instances=dict.fromkeys(names, 3))}
    statistics = Statistics(task=task, class_names=list(names), splits=splits if entries else {})
    whole = Report(
        **{"archive": "a.zip", "digest": "0" * 64, "findings": list(findings), "statistics": statistics, **report}
    )
    return render_report(whole, found, table(), {}, entries.__getitem__)


def tiles(page: str) -> list[str]:
    return page.split('<div class="tile">')[1:]


def pixels_of(tile: str) -> np.ndarray:
    data = re.findall(r'href="data:image/jpeg;base64,([^"]+)"', tile)[0]
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR))


def test_nothing_from_outside_is_markup() -> None:
    findings = [error(Code.LABEL_CLASS, HOSTILE, path=f"{HOSTILE}.png.txt", line=1)]
    entries = {f"{HOSTILE}.png": plain_image(), f"{HOSTILE}.png.txt": b"0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.1 0.1"}

    page = page_of(*findings, entries=entries, names=(HOSTILE, "dog"), archive=HOSTILE, digest=HOSTILE)

    assert (page.count("<script"), page.count("<img"), page.count("</style>")) == (0, 0, 1)
    assert "\u202e" not in page
    assert page.count("&lt;script&gt;") > 8
    assert page.encode("utf-8")


def test_the_policy_allows_the_styles_hash_and_nothing_else() -> None:
    page = page_of(entries={"a.png": plain_image()})
    style = page.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in page
    assert "unsafe" not in page
    assert not re.search(r"<[^>]+ style=|<script| on[a-z]+=|url\(|@import|javascript:", page)
    assert not re.findall(r"""(?:src|href)=(?!"data:image/jpeg;base64,|"#)""", page)


def test_every_code_is_shown_with_its_meaning_and_errors_come_first() -> None:
    levels = list(Severity)
    findings = [
        Finding(code=code, severity=levels[place % 3], message=f"m{place}", path="x/y.txt", line=7)
        for place, code in enumerate(Code)
    ]

    page = page_of(*findings)

    for place, code in enumerate(Code):
        assert f"<code>{code}</code>" in page
        assert html.escape(code.meaning).replace("&#x27;", "&#39;") in page
        assert f">m{place}<" in page
    shown_levels = re.findall(r'class="panel group (\w+)"', page)
    assert shown_levels == sorted(shown_levels, key=[level.value for level in levels].index)
    assert page.count('<bdi class="place">x/y.txt:7</bdi>') == len(Code)


def test_long_lists_are_folded_and_the_rest_is_counted() -> None:
    findings = [error(Code.LABEL_RANGE, f"m{number}.") for number in range(60)]
    page = page_of(*findings, omitted={Code.LABEL_RANGE: {Severity.ERROR: 5000}})

    assert "<summary>47 more</summary>" in page
    assert '<span class="count">5,060</span>' in page
    assert "5,010 more are not listed" in page
    assert ("m49." in page, "m50." in page) == (True, False)


def test_one_code_as_error_and_as_warning_is_two_groups() -> None:
    page = page_of(error(Code.SPLIT_LEAK, "same"), warning(Code.SPLIT_LEAK, "near"))
    assert re.findall(r'id="(split-leak-\w+)"', page) == ["split-leak-error", "split-leak-warning"]


def test_an_archive_that_is_no_zip_has_a_page() -> None:
    page = page_of(error(Code.ARCHIVE_UNREADABLE, "Expected a whole zip archive, found 'a.zip': no zip."))
    assert 'class="verdict invalid"' in page
    assert re.findall(r'<section id="(\w+)"', page) == ["findings"]
    assert "<nav" not in page


def test_a_faultless_archive_says_so() -> None:
    page = page_of(entries={"a.png": plain_image()})
    assert 'class="verdict valid"' in page
    assert "nothing was found" in page
    assert re.findall(r'<section id="(\w+)"', page) == ["findings", "classes", "samples"]


def test_boxes_are_drawn_where_they_are_and_the_faulty_one_stands_out() -> None:
    entries = {"a.png": plain_image(), "a.png.txt": b"1 0.5 0.5 0.5 0.25\n0 0.25 0.5 0.125 0.5\n"}
    finding = warning(Code.OUTLIER_BOX, "odd", path="a.png.txt", line=2)

    faulty, sample = tiles(page_of(finding, entries=entries))

    dog, cat = "M80 75L240 75L240 125L80 125z", "M60 50L100 50L100 150L60 150z"
    assert f'<path class="label" stroke="{css_colour(1)}" d="{dog}"><title>dog</title>' in faulty
    assert f'<path class="fault" d="{cat}"><title>line 2: cat</title>' in faulty
    assert f'<path class="label" stroke="{css_colour(0)}" d="{cat}"><title>cat</title>' in sample
    assert "fault" not in sample
    assert re.findall(r"<bdi>(\w+)</bdi> <b>(\d+)</b>", sample) == [("dog", "1"), ("cat", "1")]
    for tile in (faulty, sample):
        assert pixels_of(tile).shape == (200, 320, 3)
        assert np.abs(pixels_of(tile).astype(int) - (40, 80, 160)).max() < 8


def test_a_box_beyond_the_edge_gets_room() -> None:
    entries = {"a.png": plain_image(), "a.png.txt": b"0 0.5 0.5 0.5 0.5\n0 1.05 0.5 0.1 0.1\n"}

    def view(line: int) -> str:
        page = page_of(error(Code.LABEL_RANGE, "out", path="a.png.txt", line=line), entries=entries)
        return page.split('class="picture" viewBox="')[1].split('"')[0]

    assert view(1) == "0 0 320 200"
    assert view(2) == "0 0 358 200"


def test_a_box_too_small_to_be_seen_gets_a_ring() -> None:
    entries = {"a.png": plain_image(), "a.png.txt": b"0 0.5 0.5 0.01 0.01\n0 0.5 0.5 0.05 0.05\n"}
    findings = [warning(Code.LABEL_TINY, "small", path="a.png.txt", line=line) for line in (1, 2)]
    drawn = re.findall(r'class="fault" d="([^"]+)"', page_of(*findings, entries=entries))
    assert ["a12 12" in path for path in drawn] == [True, False]


def test_duplicates_are_shown_side_by_side() -> None:
    entries = {name: plain_image() for name in ("a.png", "b.png")}
    finding = Finding(code=Code.SPLIT_LEAK, severity=Severity.ERROR, message="m", path="b.png", other="a.png")
    pair = page_of(finding, entries=entries).split('class="panel exhibit error pair"')[1].split("</figure>")[0]
    assert re.findall(r'class="name" title="([^"]+)"', pair) == ["b.png", "a.png"]


def fails(_name: str) -> bytes:
    raise ArchiveError(error(Code.ARCHIVE_UNREADABLE, "damaged"))


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        ({}.__getitem__, "cannot be read"),
        (fails, "cannot be read"),
        (lambda _: b"", "no picture"),
        (lambda _: b"\xff\xd8\xff no picture", "no picture"),
        (lambda _: huge_png(20_000, 8_900), "Too large to be shown here: 20000 x 8900"),
        (lambda _: huge_png(300, 300), "no picture"),
        (lambda _: image(width=8000, height=16), None),
        (lambda _: image(width=1, height=3000), None),
        (lambda _: image(width=600, height=400)[:-4000], None),
    ],
    ids=["absent", "damaged", "empty", "garbage", "huge", "only a header", "wide", "sliver", "cut short"],
)
def test_what_cannot_be_seen_has_a_tile_that_says_why(read: Callable[[str], bytes], reason: str | None) -> None:
    found = dataset({"a.jpg": b""})
    statistics = Statistics(splits={"train": SplitStatistics(images=1)})
    report = Report(archive="a.zip", digest="", findings=[], statistics=statistics)

    (tile,) = tiles(render_report(report, found, table(), {}, read))

    missing = re.findall(r'class="picture missing">([^<]+)<', tile)
    if reason is None:
        assert not missing
        assert max(pixels_of(tile).shape) <= 320
    else:
        assert reason in missing[0]


def test_an_image_stands_upright_at_every_size() -> None:
    """Boxes are drawn on what training sees: the image as its EXIF orientation turns it, also when decoded small."""
    for width, height in ((300, 150), (3000, 1500)):
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        Image.new("RGB", (width, height)).save(buffer, "JPEG", exif=exif)
        (tile,) = tiles(page_of(entries={"a.jpg": buffer.getvalue()}))
        rows, columns = pixels_of(tile).shape[:2]
        assert rows == 2 * columns


def test_samples_are_spread_evenly_and_always_the_same() -> None:
    entries = {f"{number:03}.png": plain_image(20, 20) for number in range(100)}
    page = page_of(entries=entries)
    names = re.findall(r'class="name" title="(\d+)\.png"', page)
    assert len(names) == SAMPLES
    assert (names[0], names[1], names[-1]) == ("000", "009", "099")
    assert page == page_of(entries=entries)


def test_images_of_a_classification_tree_show_their_class() -> None:
    (tile,) = tiles(page_of(entries={"train/dog/a.png": plain_image()}, task="classify"))
    assert f'fill="{css_colour(1)}"/></svg><bdi>dog</bdi></span>' in tile


def test_images_that_a_model_has_labelled_are_marked() -> None:
    entries = {"a.png": plain_image(), "b.png": plain_image()}
    origins = unpack_label_origins(pack_label_origins([by_model("b.png")]))
    whole = Report(archive="a.zip", digest="0" * 64, findings=[], statistics=Statistics())
    page = render_report(whole, replace(dataset(entries), origins=origins), table(), {}, entries.__getitem__)
    assert ["labels of a model" in tile for tile in tiles(page)] == [False, True]


def test_charts_have_titles_axes_and_words() -> None:
    found = dataset({"a.png": plain_image(), "a.png.txt": b""})
    statistics = Statistics(splits={"train": SplitStatistics(images=1)})
    report = Report(archive="a.zip", digest="", findings=[], statistics=statistics)
    rows = [("a.png.txt", 1, 0, 0.5, 0.5, 0.1, 0.1, 0)]

    page = render_report(report, found, table(rows), {"a.png": traits(320, 200)}, fails, imgsz=1280)

    assert page.count('<figure class="panel">') == 5
    assert 'aria-label="Where the labels lie. The fullest cell holds 1 of 1 labels' in page
    assert "centre x, share of the image&#39;s width" in page
    assert "Longer side of a label at 1280 px" in page
    assert "<title>1 labels</title>" in page


def test_hundreds_of_classes_are_listed_by_frequency_and_then_cut() -> None:
    names = [f"class-{number:03}" for number in range(600)]
    splits = {"train": SplitStatistics(images=1, instances={"class-599": 7, "class-001": 9}), "val": SplitStatistics()}
    page = page_of(statistics=Statistics(task="detect", class_names=names, splits=splits))

    listed = re.findall(r"<bdi>(class-\d+)</bdi>", page)
    assert (len(listed), listed[:3]) == (500, ["class-001", "class-599", "class-000"])
    assert "100 more classes" in page
    assert '<td class="zero">0</td>' in page


def test_the_page_stays_small_whatever_the_archive() -> None:
    noise = image(width=500, height=400)
    boxes = "\n".join(f"{n % 90} 0.{n:03} 0.5 0.1 0.2" for n in range(600)).encode()
    entries = {f"{n}{end}": data for n in range(60) for end, data in ((".jpg", noise), (".jpg.txt", boxes))}
    findings = [
        Finding(
            code=code,
            severity=severity,
            message="<" * 3000,
            path=f"{number % 60}.jpg",
            line=number,
            other=f"{(number + 1) % 60}.jpg" if code is Code.SPLIT_LEAK else None,
        )
        for code in list(Code)[::2]
        for severity in Severity
        for number in range(60)
    ]

    page = page_of(*findings, entries=entries, names=[f"{HOSTILE}{n}" * 9 for n in range(90)])

    assert 2**20 < len(page) < 4 * 2**20
    assert MAX_FAULTY <= len(tiles(page)) <= MAX_FAULTY + SAMPLES + 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("a\u202eb\nc\x00", "a�b�c�"),
        ("می‌خواهم", "می‌خواهم"),
        ("x" * 12, "x" * 12),
        ("start" + "x" * 20 + "end.jpg", "star…end.jpg"),
    ],
)
def test_names_are_shown_as_they_are_but_for_what_forges_them(text: str, expected: str) -> None:
    assert sanitize_text(text, 12) == expected


def browse(folder: Path, page: str, *options: str) -> str:
    """Return what the browser logs while it shows the page."""
    (folder / "report.html").write_text(page, encoding="utf-8")
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    quiet += " --disable-component-update --disable-sync --virtual-time-budget=4000 --enable-logging=stderr"
    command = [str(CHROMIUM), *quiet.split(), f"--user-data-dir={folder / 'profile'}", *options]
    done = subprocess.run([*command, (folder / "report.html").as_uri()], capture_output=True, timeout=120, check=True)
    return done.stderr.decode("utf-8", "replace")


@pytest.mark.usefixtures("open_browser")
def test_the_browser_draws_the_faulty_box_and_complains_of_nothing(tmp_path: Path) -> None:
    entries = {"a.png": plain_image(), "a.png.txt": b"1 0.2 0.2 0.1 0.1\n0 0.5 0.5 0.5 0.5\n"}
    page = page_of(error(Code.LABEL_CLASS, HOSTILE, path="a.png.txt", line=2), entries=entries, names=("cat", HOSTILE))
    shot = tmp_path / "page.png"

    log = browse(tmp_path, page, f"--screenshot={shot}", "--window-size=1300,1600")

    assert "CONSOLE" not in log
    seen = np.asarray(cv2.imread(str(shot))).astype(int)
    red = np.abs(seen - (0x2D, 0x11, 0xE8)).max(axis=2) < 20
    left, right = np.flatnonzero(red.sum(axis=0) > 40)[[0, -1]]
    picture = np.abs(seen - (40, 80, 160)).max(axis=2) < 12
    assert picture.sum() > 20_000
    assert 100 < right - left < 200
