"""Nothing that lies in the bucket vanishes in silence, and no name does harm on the page."""

from tasks.dataset_watch.report import StartedChecks, is_worth_a_report, watch_markdown, watch_sentence
from tasks.dataset_watch.rules import Survey
from tasks.rendering.links import UiLinks

PAGES = UiLinks(prefect="http://prefect", mlflow="http://mlflow", live="http://live")
NOTHING = StartedChecks(runs={}, refused={}, waiting=0)


def surveyed(archives: int = 0, others: tuple[str, ...] = (), other_objects: int = 0, **unusable: str) -> Survey:
    return Survey(archives=archives, unchecked=(), unusable=unusable, other_objects=other_objects, others=others)


def test_a_sentence_says_what_was_done_and_what_was_not() -> None:
    assert watch_sentence(surveyed(12), NOTHING) == "12 archives, 0 checks started"
    started = StartedChecks(runs={"a.zip": "run-1"}, refused={"b.zip": "no"}, waiting=7)
    assert watch_sentence(surveyed(12, c="odd"), started) == (
        "12 archives, 1 check started, 7 wait for the next watch, 2 cannot be checked"
    )


def test_a_watch_that_has_nothing_to_say_writes_no_page() -> None:
    assert not is_worth_a_report(surveyed(12, ("a.txt",), 1), NOTHING)
    assert is_worth_a_report(surveyed(1, odd="reason"), NOTHING)
    assert is_worth_a_report(surveyed(1), StartedChecks(runs={"a.zip": "run-1"}, refused={}, waiting=0))
    assert is_worth_a_report(surveyed(1), StartedChecks(runs={}, refused={"a.zip": "no"}, waiting=0))


def test_the_page_links_each_check_and_names_what_gets_none() -> None:
    started = StartedChecks(runs={"a.zip": "run-1"}, refused={"b.zip": "no such deployment"}, waiting=0)
    page = watch_markdown(surveyed(3, ("x.txt",), 4, **{"c.zip": "a bad name"}), started, PAGES)
    assert "[a.zip](http://prefect/runs/flow-run/run-1)" in page
    assert "'b.zip': no such deployment" in page
    assert "'c.zip': a bad name" in page
    assert "'x.txt'\n- and 3 more" in page


def test_names_are_shown_and_not_obeyed() -> None:
    hostile = "<img src=x onerror=alert(1)>](http://evil)\n# title.zip"
    page = watch_markdown(
        surveyed(1, (hostile,), 1, **{hostile: hostile}),
        StartedChecks(runs={hostile: "r"}, refused={}, waiting=0),
        PAGES,
    )
    assert "<img" not in page.replace("\\<img", "")
    assert "](http://evil)" not in page.replace("\\](http://evil)", "")
    assert "\n# title" not in page


def test_a_list_of_thousands_is_cut_and_says_how_many_follow() -> None:
    runs = {f"{number}.zip": str(number) for number in range(5_000)}
    page = watch_markdown(surveyed(5_000), StartedChecks(runs=runs, refused={}, waiting=0), PAGES)
    assert page.count("\n- ") == 51
    assert "and 4950 more" in page
