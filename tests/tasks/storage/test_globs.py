"""Wildcards in the names of objects."""

import pytest

from tasks.storage.globs import compile_glob, fixed_prefix


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [("shapes-*.zip", "shapes-"), ("a?[b]*", "a"), ("*", ""), ("a.zip", None), ("street/", None)],
)
def test_the_fixed_prefix_ends_before_the_first_wildcard(pattern: str, prefix: str | None) -> None:
    assert fixed_prefix(pattern) == prefix


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("shapes-*.zip", "shapes-a.zip", True),
        ("shapes-*.zip", "shapes-a.zip.part", False),
        ("shapes-*.zip", "shapes-a/b.zip", True),
        ("a+b?.zip", "a+b1.zip", True),
        ("a+b?.zip", "aab1.zip", False),
        ("street/", "street/a.jpg", True),
        ("s.reet/", "street/a.jpg", False),
    ],
)
def test_a_pattern_matches_whole_names_and_a_folder_what_is_in_it(pattern: str, name: str, expected: bool) -> None:
    assert bool(compile_glob(pattern).match(name)) == expected
