"""Names in Triton: the model's own is for its champion, and nobody comes upon the others by chance."""

import re

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from infra.front_page.live import _NAME
from tasks.parameters import ModelName
from tasks.serving import triton_names

NAMES = st.from_regex(re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z"))
VERSIONS = st.integers(1, 2**31)
PATTERN = re.compile(TypeAdapter(ModelName).json_schema()["pattern"])


@given(name=NAMES, version=VERSIONS)
def test_a_name_aside_says_whose_it_is_and_is_no_model_of_anybody(name: str, version: int) -> None:
    own, kept, candidate = triton_names.list_names(name, version)
    assert own == name
    assert not triton_names.is_aside(own)
    assert len({own, kept, candidate}) == 3
    assert (triton_names.kept_version(kept), triton_names.kept_version(candidate)) == (version, None)
    for aside in (kept, candidate):
        assert triton_names.is_aside(aside)
        assert triton_names.model_name_of(aside) == name
        assert aside.startswith(triton_names.aside_prefix(name))
        assert not PATTERN.search(aside)
        assert not _NAME.fullmatch(aside)


LONGER = st.builds(lambda name, tail: (name, name + tail), NAMES, st.text("a0-_", max_size=4))


@given(names=st.tuples(NAMES, NAMES) | LONGER, version=VERSIONS)
def test_what_is_aside_of_one_model_is_never_taken_for_another_s(names: tuple[str, str], version: int) -> None:
    """Nor if the name of one begins with that of the other."""
    for own, other in (names, names[::-1]):
        for aside in triton_names.list_names(own, version)[1:]:
            assert aside.startswith(triton_names.aside_prefix(other)) == (own == other)
