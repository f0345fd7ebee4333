"""Records of checks, in the real store."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.dataset.findings import Report, Severity, SplitStatistics, Statistics, Verdict, make_finding
from tasks.finding_codes import Code
from tasks.storage.object_store import ObjectStore
from tasks.validation import check_records
from tasks.validation.check_records import CheckRecord, check_id, delete_checks, list_checks, read_checks

pytestmark = pytest.mark.usefixtures("stack")
RUNS = ObjectStore("runs")


def report(archive: str, *severities: Severity) -> Report:
    findings = [make_finding(each, Code.CLASS_FEW, "many", "few", "Add some.") for each in severities]
    statistics = Statistics(task="detect", class_names=["a", "ü"], splits={"train": SplitStatistics(images=7)})
    return Report(archive=archive, digest="d" * 64, findings=findings, statistics=statistics)


def check(archive: str, etag: str, *severities: Severity, run: str = "run-1") -> None:
    check_records.record_check.fn(report(archive, *severities), etag, run)


def test_a_check_is_read_by_the_key_and_the_etag_of_what_was_checked() -> None:
    check("folder/ü <b>.zip", '"e-1"', Severity.WARNING)

    found, replaced, other = read_checks(
        [("folder/ü <b>.zip", '"e-1"'), ("folder/ü <b>.zip", '"e-2"'), ("x.zip", '"e-1"')]
    )
    assert found is not None
    assert (replaced, other) == (None, None)
    assert (found.verdict, found.task, found.class_names, found.images) == (
        Verdict.VALID_WITH_WARNINGS,
        "detect",
        ("a", "ü"),
        7,
    )
    assert (found.flow_run_id, found.digest, found.archive) == ("run-1", "d" * 64, "folder/ü <b>.zip")
    assert abs(datetime.now(UTC) - found.checked) < timedelta(minutes=1)


def test_a_check_under_another_policy_takes_the_place_of_the_first() -> None:
    check("again.zip", "e", Severity.WARNING)
    check("again.zip", "e", Severity.ERROR, run="run-2")

    (found,) = read_checks([("again.zip", "e")])
    assert found is not None
    assert (found.verdict, found.flow_run_id) == (Verdict.INVALID, "run-2")
    assert check_id("again.zip", "e") in list_checks(Verdict.INVALID)
    assert check_id("again.zip", "e") not in list_checks(Verdict.VALID_WITH_WARNINGS)
    assert check_id("again.zip", "e") in list_checks()


@pytest.mark.parametrize(("minutes", "expected"), [(-1, "mine"), (1, "other")])
def test_of_two_checks_at_a_time_the_later_stays(minutes: int, expected: str) -> None:
    """Each removes only what is older, so that the two never remove each other's."""
    key = f"race{minutes}.zip"
    other = CheckRecord.from_report(report(key), "e", "other")
    assert other is not None
    other = other.model_copy(update={"checked": datetime.now(UTC) + timedelta(minutes=minutes)})
    RUNS.put(f"checks/valid/{check_id(key, 'e')}.json", other.model_dump_json().encode())
    check(key, "e", Severity.ERROR, run="mine")

    (found,) = read_checks([(key, "e")])
    assert found is not None
    assert found.flow_run_id == expected


def test_what_somebody_else_wrote_is_no_check() -> None:
    RUNS.put(f"checks/valid/{check_id('odd.zip', 'e')}.json", b'{"archive": ["x"]}')
    assert read_checks([("odd.zip", "e")]) == [None]


def test_checks_of_archives_elsewhere_are_not_kept() -> None:
    """The catalogue is of bucket `datasets`; the same key in two buckets must not share a verdict."""
    check("s3://media/elsewhere.zip", "e")
    check("s3://datasets/named.zip", "e")
    elsewhere, named = read_checks([("elsewhere.zip", "e"), ("named.zip", "e")])
    assert elsewhere is None
    assert named is not None


def test_the_records_of_an_archive_can_be_removed() -> None:
    for key, etag, severity in (("gone.zip", "e-1", Severity.ERROR), ("gone.zip", "e-2", Severity.INFO)):
        check(key, etag, severity)
    check("stays.zip", "e-1")
    delete_checks("gone.zip")

    first, second, other = read_checks([("gone.zip", "e-1"), ("gone.zip", "e-2"), ("stays.zip", "e-1")])
    assert (first, second) == (None, None)
    assert other is not None
