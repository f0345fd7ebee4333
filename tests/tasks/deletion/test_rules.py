"""What must not be deleted, and what only by force."""

import shlex
from typing import Any

import pytest

from tasks.deletion.rules import (
    DeletionError,
    Obstacle,
    VersionUse,
    archive_obstacles,
    archives_named,
    prediction_obstacles,
    require_deletable,
    restore_command,
    stands_for,
    version_obstacles,
)

ABSOLUTE, BY_FORCE = Obstacle(reason="It is served.", absolute=True), Obstacle(reason="It was trained on.")


@pytest.mark.parametrize(
    ("obstacles", "force", "message"),
    [
        ([], False, None),
        ([BY_FORCE], True, None),
        ([BY_FORCE], False, "It was trained on. Start this again with force"),
        ([ABSOLUTE], True, "It is served. Change that first"),
        ([ABSOLUTE, BY_FORCE], False, "It is served. It was trained on. Change that first"),
    ],
)
def test_force_sets_aside_what_is_not_absolute(obstacles: list[Obstacle], force: bool, message: str | None) -> None:
    if message is None:
        require_deletable("a.zip", obstacles, force=force)
        return
    with pytest.raises(DeletionError, match=message):
        require_deletable("a.zip", obstacles, force=force)


@pytest.mark.parametrize(
    ("trained", "runs", "expected"),
    [
        ({}, [], []),
        ({"shapes/1": {"b.zip": "other"}}, [], []),
        ({"shapes/1": {"a.zip": "same"}}, [], ["Version shapes/1 was trained on these very bytes."]),
        ({"shapes/1": {"copy.zip": "same"}}, [], ["Version shapes/1 was trained on these very bytes."]),
        ({"shapes/1": {"a.zip": "other"}}, [], ["Version shapes/1 was trained on an earlier archive of this name."]),
        (
            {"shapes/1": {"a.zip": "same"}, "shapes/2": {"a.zip": "same", "b.zip": "other"}},
            ["lazy-cat"],
            ["Versions shapes/1, shapes/2 were trained on these very bytes.", "Unfinished runs read it: lazy-cat."],
        ),
    ],
)
def test_an_archive_is_needed_by_its_bytes_and_by_its_name(
    trained: dict[str, dict[str, str]], runs: list[str], expected: list[str]
) -> None:
    found = archive_obstacles("a.zip", "same", trained, runs)
    assert [each.reason for each in found] == expected
    assert not any(each.absolute for each in found)


def test_a_run_names_archives_in_several_parameters() -> None:
    """Whatever type a parameter of somebody else's flow has."""
    assert archives_named({"archives": ["a.zip", "b*"], "promotion": {"gold": "gold.zip"}}) == [
        "a.zip",
        "b*",
        "gold.zip",
    ]
    assert archives_named({"archive": "a.zip", "archives": None, "promotion": {"gold": None}}) == ["a.zip"]
    assert archives_named({"source": "sources/a.zip", "archive": "a.zip"}) == ["a.zip", "sources/a.zip"]
    assert archives_named({"archive": "a.zip", "evaluation": {"also": ["b.zip"]}}) == ["a.zip", "b.zip"]
    assert archives_named({"archive": "a.zip", "labelling": {"compare": "b.zip"}}) == ["a.zip", "b.zip"]
    assert archives_named({"archive": 5, "archives": {"x": 1}, "promotion": "gold.zip"}) == []


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("shapes/a.zip", True),
        ("s3://datasets/shapes/a.zip", True),
        ("shapes/*.zip", True),
        ("s3://datasets/shapes/?.zip", True),
        ("shapes/a", False),
        ("shapes/b*.zip", False),
        ("s3://media/shapes/a.zip", False),
        ("champion+", False),
        ("../x", False),
    ],
)
def test_an_entry_stands_for_an_archive_by_name_or_by_pattern(entry: str, expected: bool) -> None:
    assert stands_for(entry, "shapes/a.zip") is expected


def test_many_versions_are_counted() -> None:
    trained = {f"shapes/{number}": {"a.zip": "same"} for number in range(1, 13)}
    assert "shapes/10 and 2 more" in archive_obstacles("a.zip", "same", trained, [])[0].reason


@pytest.mark.parametrize(
    ("use", "reason", "absolute"),
    [
        ({"aliases": ["champion"]}, "It is champion.", True),
        ({"aliases": ["challenger"]}, "It is challenger.", True),
        ({"is_served": True}, "Triton serves it.", True),
        ({"history": [1, 2, 3]}, "goes back to", True),
        ({"holders": ["run"]}, "Runs of inference use it: run.", True),
        ({"deployments": ["run"]}, "change what is served", True),
        ({"training": ["run"]}, "Its training has not ended: run.", True),
        ({"aliases": ["prod"]}, "Alias prod points at it.", False),
        ({"history": [2, 1, 3]}, "It was champion", False),
        ({"trained_from": ["shapes/5"]}, "Version shapes/5 was trained from its weights.", False),
    ],
)
def test_each_use_of_a_version_is_in_the_way(use: dict[str, Any], reason: str, absolute: bool) -> None:
    found = version_obstacles(2, VersionUse(**use))
    assert [(reason in each.reason, each.absolute) for each in found] == [(True, absolute)]


def test_a_version_that_nobody_uses_may_go() -> None:
    assert version_obstacles(2, VersionUse(history=[1, 3])) == []


@pytest.mark.parametrize(
    ("has_ended", "is_published", "absolute"),
    [(False, True, True), (False, False, True), (None, False, False), (None, True, None), (True, False, None)],
)
def test_results_may_go_when_nobody_writes_them(
    has_ended: bool | None, is_published: bool, absolute: bool | None
) -> None:
    found = prediction_obstacles(has_ended=has_ended, is_published=is_published)
    assert [each.absolute for each in found] == ([] if absolute is None else [absolute])


def test_the_way_back_is_a_command_for_a_shell_whatever_the_name() -> None:
    command = restore_command("datasets", "it's <b> ü.zip", "7f")
    assert shlex.split(command)[-1] == "datasets/it's <b> ü.zip?versionId=7f"
    assert shlex.split(command)[6] == "it's <b> ü.zip"
    assert restore_command("datasets", "a.zip", None) == ""
