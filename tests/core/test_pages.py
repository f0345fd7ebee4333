"""Pages that people see: the markdown in Prefect, and what pages of HTML share."""

import re
from pathlib import Path

import pytest

from tasks.core.codes import Code
from tasks.core.epochs import metric_name
from tasks.core.findings import Finding, Report, Severity, SplitStatistics, Statistics, Verdict
from tasks.core.markdown import plain, table
from tasks.core.pages import render_page
from tasks.core.validation.report_markdown import report_markdown, report_sentence

HOSTILE = "<script>|[x](javascript:y)`\n# title"


def report(*findings: Finding) -> Report:
    statistics = Statistics(task="detect", class_names=["cat"], splits={"train": SplitStatistics(images=3, labelled=2)})
    return Report(archive="a.zip", digest="0" * 64, findings=list(findings), statistics=statistics)


def test_text_cannot_leave_its_cell() -> None:
    (_, _, row) = table(("name",), [(HOSTILE,)]).splitlines()
    assert row == r"| \<script\>\|\[x\](javascript:y)\` \# title |"
    assert "\n" not in plain(HOSTILE)


def page_of(*findings: Finding, checked: str | None = None, **changes: object) -> str:
    return report_markdown(report(*findings).model_copy(update=changes), "https://page", "https://json", checked)


def test_a_report_shows_counts_places_and_splits() -> None:
    page = page_of(Finding(code=Code.LABEL_RANGE, severity=Severity.ERROR, message="bad", path="l.txt", line=3))
    assert "a.zip: invalid" in page
    assert "Errors: 1, warnings: 0, notes: 0" in page
    assert "| label-range | 1 | error | l.txt:3 | bad |" in page
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


def test_errors_come_first() -> None:
    found = [Finding(code=Code.ARCHIVE_JUNK, severity=Severity.INFO, message="note")]
    found += [Finding(code=Code.CLASS_FEW, severity=Severity.ERROR, message="fault")]
    page = page_of(*found)
    assert 0 < page.index("| fault |") < page.index("| note |")


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
FILLED_IN = {*Severity, *Verdict, "passed", "failed"}


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
