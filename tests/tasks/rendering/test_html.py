"""Pages that people see: the markdown in Prefect, and what pages of HTML share."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dataset.findings import Finding, Report, Severity, SplitStatistics, Statistics, Verdict
from tasks.finding_codes import Code
from tasks.rendering import html
from tasks.rendering.html import render_page
from tasks.rendering.markdown import MAX_CHARACTERS, escape_markdown, table, wrap_text
from tasks.rendering.palette import css_colour
from tasks.training.events import metric_name
from tasks.validation.report.markdown import report_markdown, report_sentence

HOSTILE = "<script>|[x](javascript:y)`\n# title"


def report(*findings: Finding) -> Report:
    statistics = Statistics(task="detect", class_names=["cat"], splits={"train": SplitStatistics(images=3, labelled=2)})
    return Report(archive="a.zip", digest="0" * 64, findings=list(findings), statistics=statistics)


def test_text_cannot_leave_its_cell() -> None:
    (_, _, row) = table(("name",), [(HOSTILE,)]).splitlines()
    assert row == r"| \<script\>\|\[x\](javascript:y)\` \# title |"
    assert "\n" not in escape_markdown(HOSTILE)


def page_of(*findings: Finding, checked: str | None = None, **changes: object) -> str:
    return report_markdown(report(*findings).model_copy(update=changes), "https://page", "https://json", checked)


def test_a_report_shows_counts_places_and_splits() -> None:
    page = page_of(Finding(code=Code.LABEL_RANGE, severity=Severity.ERROR, message="bad", path="l.txt", line=3))
    assert "a.zip: invalid" in page
    assert "Errors: 1, warnings: 0, notes: 0" in page
    assert "| label-range | 1 | error |" in page
    assert "- **l.txt:3** bad" in page
    assert "| images | 3 |" in page
    assert "| cat | 0 |" in page


def test_the_full_report_is_the_first_link() -> None:
    page = page_of()
    assert 0 < page.index("(https://page)") < page.index("(https://json)")


def test_a_report_from_before_says_so() -> None:
    said = "Not checked again: the same bytes were checked by run 'x'."
    assert said in page_of(checked=said)
    assert "again" not in page_of()


def test_only_the_first_findings_of_a_code_are_shown() -> None:
    many = [Finding(code=Code.LABEL_RANGE, severity=Severity.WARNING, message=f"m{number}") for number in range(9)]
    page = page_of(*many, omitted={"label-range": {Severity.WARNING: 1000}})
    assert ("| label-range | 1009 |" in page, "m2" in page, "m3" in page) == (True, True, False)
    assert "\n- and 1006 more" in page


def test_errors_come_first() -> None:
    found = [Finding(code=Code.ARCHIVE_JUNK, severity=Severity.INFO, message="note")]
    found += [Finding(code=Code.CLASS_FEW, severity=Severity.ERROR, message="fault")]
    page = page_of(*found)
    assert 0 < page.index("\n- fault") < page.index("\n- note")


def test_the_table_of_classes_is_cut() -> None:
    names = [f"class-{number}" for number in range(45)]
    page = page_of(statistics=Statistics(class_names=names, splits={"train": SplitStatistics(instances={"odd": 1})}))
    assert ("class-39 |" in page, "class-40" in page, "6 more classes" in page) == (True, False, True)
    assert "more classes" not in page_of()


def test_a_report_on_a_hostile_archive_stays_within_its_cells() -> None:
    page = page_of(
        Finding(code=Code.LABEL_CLASS, severity=Severity.ERROR, message="x" * 9999, path=f"\u202e{HOSTILE}"),
        archive=HOSTILE,
    )
    assert "<script>" not in page
    assert "\u202e" not in page
    assert page.count("\n# ") == 0
    assert len(page) < 2000


def test_the_sentence_names_the_first_error() -> None:
    warning = Finding(code=Code.CLASS_FEW, severity=Severity.WARNING, message="careful")
    error = Finding(code=Code.IMAGE_UNREADABLE, severity=Severity.ERROR, message="broken", path="a.jpg")
    assert report_sentence(report()) == "a.zip: valid, no findings"
    assert report_sentence(report(warning, error)) == "a.zip: invalid, 1 class-few, 1 image-unreadable. a.jpg broken"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("metrics/mAP50(B)", "metrics/mAP50"), ("metrics/mAP50(M)", "metrics/mAP50_mask"), ("lr/pg0", "lr/pg0")],
)
def test_metric_names_are_such_as_mlflow_takes(name: str, expected: str) -> None:
    assert metric_name(name) == expected


TEMPLATES = Path(render_page.__code__.co_filename).with_name("templates")
STYLES = {"report": ("document",), "training": ("document", "judgement"), "parity": ("document", "judgement")}
FILLED_IN = {*Severity, *Verdict, "passed", "failed", "chosen", "refused"}


@pytest.mark.parametrize("name", STYLES)
def test_a_page_has_a_rule_for_nothing_that_it_does_not_show(name: str) -> None:
    """Each class and id in its style, and in the styles that it shares, is in its template."""
    template = (TEMPLATES / f"{name}.html.j2").read_text()
    for style in (*STYLES[name], name):
        selectors = re.sub(r"\{[^{}]*\}", "{}", (TEMPLATES / f"{style}.css").read_text())
        for found in re.findall(r"[.#]([a-z][\w-]*)", selectors):
            assert found in FILLED_IN or re.search(rf"\b{found.rstrip('0123456789')}", template), (
                f"{style}.css: {found}"
            )


def test_no_page_repeats_what_pages_share() -> None:
    shared = {line for name in ("document", "judgement") for line in lines_of(name)}
    assert not [(name, line) for name in STYLES for line in shared & lines_of(name)]


def lines_of(style: str) -> set[str]:
    return {line for line in (TEMPLATES / f"{style}.css").read_text().splitlines() if "}" in line and ":" in line}


WIDE = "\u5199\u771f"
CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text("ab", max_size=20),
    st.lists(st.text(f"ab_|{WIDE}", min_size=1, max_size=2).map(lambda text: text * 50), max_size=3).map("".join),
)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8).flatmap(lambda size: st.lists(st.tuples(*[CELLS] * size), min_size=1, max_size=4)))
def test_a_row_of_a_table_has_room(rows: list[tuple[str, ...]]) -> None:
    """Prefect hides what is wider, and no cell that fits is touched."""
    lines = table(rows[0], rows[1:]).splitlines()
    for line in (line for line in lines if not line.startswith("| ---")):
        cells = [re.sub(r"\\(.)", r"\1", cell) for cell in line.removeprefix("| ").removesuffix(" |").split(" | ")]
        # A wide letter takes the place of two.
        assert sum(len(cell) + sum(map(cell.count, WIDE)) + 3 for cell in cells) <= MAX_CHARACTERS
    if sum(max(len(row[at]) for row in rows) + 3 for at in range(len(rows[0]))) <= MAX_CHARACTERS // 2:
        assert "…" not in "".join(lines) or "…" in str(rows)


def test_a_long_name_in_a_table_keeps_its_beginning_and_its_end() -> None:
    name = f"train/images/camera-07_{'0' * 200}_frame-000481.jpg"
    (_, _, row) = table(("image", "labels"), [(name, 3)]).splitlines()
    assert re.fullmatch(r"\| train/images/camera-07\\_0+…0+\\_frame-000481\.jpg \| 3 \|", row)
    assert len(row) < MAX_CHARACTERS + 5


WORDS = st.lists(st.text("ab/_*|\u00e9\u0436\u5199", min_size=30, max_size=90), max_size=2).map(" ".join)


@settings(max_examples=200)
@given(st.text(max_size=200) | WORDS)
def test_a_long_word_may_break_and_says_the_same(text: str) -> None:
    text = text.replace("\0", "")
    assert wrap_text(text).replace("<wbr>", "") == escape_markdown(text)


def test_only_long_words_get_places_to_break() -> None:
    assert wrap_text("annotations/instances_train.json " * 9) == escape_markdown(
        "annotations/instances_train.json " * 9
    )
    assert wrap_text("x" * 44) == "<wbr>".join([*["x" * 10] * 4, "xxxx"])


def test_what_has_the_colour_of_its_class_has_no_single_one_in_the_legend() -> None:
    """Also of pages whose first class is drawn in the first of them."""
    (own,) = re.findall(r"\.legend \.own::before \{(.*)\}", (html._TEMPLATES / "pictures.css").read_text())
    assert re.findall(r"#\w+", own) == [css_colour(number) for number in range(3)]
