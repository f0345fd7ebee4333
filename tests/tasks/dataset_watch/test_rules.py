"""Which archives get a check: each content of each name once, whatever else lies in the bucket."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tasks.dataset_watch.rules import FoundArchive, find_checked, refusal, survey

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def found(key: str, etag: str = "1", modified: datetime = NOW) -> FoundArchive:
    return FoundArchive(key=key, etag=etag, modified=modified)


def test_an_archive_without_a_check_is_new_and_one_with_another_etag_has_changed() -> None:
    known, changed, new = found("a.zip"), found("b.zip", "2"), found("c.zip")
    surveyed = survey([known, changed, new], {known.check_id, found("b.zip", "1").check_id}, {}, {})
    assert (surveyed.archives, surveyed.unchecked) == (3, (changed, new))


@pytest.mark.parametrize("other", [found("b.zip", "1"), found("a.zip", "2"), found("a.zip\n1", "")])
def test_another_name_or_content_is_another_check(other: FoundArchive) -> None:
    assert found("a.zip", "1").idempotency_key != other.idempotency_key


def test_a_check_that_was_started_counts_unless_the_archive_was_written_since() -> None:
    """The same bytes come again after somebody has deleted them: their verdict is gone, too."""
    started, again = found("a.zip"), found("b.zip", modified=NOW + timedelta(seconds=1))
    marks = {started.check_id: NOW, again.check_id: NOW}
    assert survey([started, again], (), marks, {}).unchecked == (again,)


def test_a_check_that_failed_without_a_verdict_is_started_again_until_the_third_failure() -> None:
    archive, times = found("a.zip"), [NOW + timedelta(minutes=minute) for minute in range(1, 7)]
    of_before = NOW - timedelta(days=1)

    def is_unchecked(marked: datetime, *failed: datetime) -> bool:
        return bool(survey([archive], (), {archive.check_id: marked}, {"a.zip": failed}).unchecked)

    assert not is_unchecked(NOW, of_before)
    assert is_unchecked(NOW, of_before, times[0])
    assert not is_unchecked(times[1], times[0])
    assert is_unchecked(times[1], times[0], times[2])
    assert not is_unchecked(times[3], times[0], times[2], times[4])
    assert not survey([archive], {archive.check_id}, {}, {"a.zip": times[:1]}).unchecked


def test_what_is_no_archive_is_counted_and_some_of_it_named() -> None:
    listed = [found(f"{number}.txt") for number in range(100)]
    surveyed = survey([*listed, found("A.ZIP")], (), {}, {})
    assert (surveyed.archives, surveyed.other_objects) == (1, 100)
    assert surveyed.others[0] == "0.txt"
    assert len(surveyed.others) < 100


def test_the_source_of_an_import_is_no_dataset_with_faults() -> None:
    surveyed = survey([found("sources/a.zip"), found("my/sources/b.zip")], (), {}, {})
    assert (surveyed.unchecked, surveyed.others) == ((found("my/sources/b.zip"),), ("sources/a.zip",))


@pytest.mark.parametrize(
    "key", ["a\n.zip", "../a.zip", "x/../a.zip", "./a.zip", "\x1b[31m.zip", "a\ud800.zip", "x" * 1021 + ".zip"]
)
def test_a_name_that_no_flow_takes_is_said_and_starts_nothing(key: str) -> None:
    surveyed = survey([found(key), found("b.zip")], (), {}, {})
    assert surveyed.unchecked == (found("b.zip"),)
    assert surveyed.unusable[key]


@pytest.mark.parametrize("key", ["<b>.zip", "ä ö/✓.zip", "s3://models/a.zip", "..zip", "a'b\".zip", "/a.zip"])
def test_an_odd_name_is_the_parameter_that_means_this_object(key: str) -> None:
    assert refusal(key) == ""


def test_a_check_counts_if_it_began_after_the_archive_was_written() -> None:
    """Stores tell whole seconds: it may have been written at the end of the second."""
    earlier, later = NOW + timedelta(seconds=0.9), NOW + timedelta(seconds=1)
    archives = [found("a.zip"), found("b.zip"), found("c.zip")]
    assert find_checked(archives, {"a.zip": later, "b.zip": earlier, "d.zip": later}) == {archives[0]}


def test_a_hundred_thousand_archives_are_surveyed_within_seconds() -> None:
    archives = [found(f"{number}.zip") for number in range(100_000)]
    known = {archive.check_id for archive in archives[:99_000]}
    began = time.process_time()
    assert len(survey(archives, known, {}, {}).unchecked) == 1_000
    assert time.process_time() - began < 5
