"""The tables of figures in docs/ are those of the file that `make bench` has written."""

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.figures import DOCS, SOURCE, TABLE, write_tables
from tests.benchmarks.results import Measure, ResultFile, ResultFileError, begin, load

PAGE = "before\n<!-- figures of bench_merge -->\nold\n<!-- end of figures -->\nafter\n"


def results(*measures: Measure, **changes: Any) -> ResultFile:
    run = begin().model_copy(update={"measures": [*measures], "exit_code": 0, **changes})
    return ResultFile(benches={"bench_merge": run})


MERGE = Measure(
    name="merge | stored",
    unit="images/s",
    better="more",
    ours=[800.0, 820.0, 810.0],
    beside="unzip",
    theirs=[1000.0, 1000.0, 1000.0],
    goal=0.9,
)
PLAN = Measure(name="plan", unit="s", better="less", ours=[1.5])


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_the_figures_in_docs_are_those_of_the_file(page: Path) -> None:
    assert page.read_text() == write_tables(page.read_text(), load(SOURCE)), "run `make docs`"


def test_every_bench_of_the_file_is_in_docs() -> None:
    shown = {bench for page in DOCS.glob("*.md") for _, bench, *_ in TABLE.findall(page.read_text())}
    assert load(SOURCE).benches.keys() <= shown


def test_an_old_table_is_replaced_and_the_rest_of_the_page_stays() -> None:
    written = write_tables(PAGE, results(MERGE, PLAN))
    assert written.startswith("before\n<!-- figures of bench_merge -->\n20")
    assert written.endswith(
        "| measure | ours | beside | ours / beside | goal |\n|---|---|---|---|---|\n"
        "| merge \\| stored | 810 images/s | unzip: 1,000 | 0.81 (0.80 to 0.82) | at least 0.9, missed |\n"
        "| plan | 1.5 s |  |  |  |\n<!-- end of figures -->\nafter\n"
    )
    assert write_tables(written, results(MERGE, PLAN)) == written


def test_a_marker_with_a_part_shows_the_measures_that_have_it_in_their_names() -> None:
    page = PAGE.replace("bench_merge -->", "bench_merge: plan -->")
    assert "stored" not in write_tables(page, results(MERGE, PLAN))
    with pytest.raises(ResultFileError, match="with 'plan' in their names, found none"):
        write_tables(page, results(MERGE))


def test_a_marker_of_no_bench_is_refused_and_one_that_has_not_run_is_left_empty() -> None:
    with pytest.raises(ResultFileError, match="found bench_marge"):
        write_tables(PAGE.replace("bench_merge", "bench_marge"), results())
    assert "old" not in write_tables(PAGE, ResultFile())


@pytest.mark.parametrize("code", [None, -9])
def test_figures_of_a_bench_that_was_killed_are_refused(code: int | None) -> None:
    with pytest.raises(ResultFileError, match="came to its end"):
        write_tables(PAGE, results(MERGE, exit_code=code))
