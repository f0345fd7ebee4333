"""What a check saw is kept and comes back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dataset.image_stats import ImageStats, check_image
from tasks.validation.image_stats_io import pack_image_stats, unpack_image_stats
from tests.tasks.dataset.archives import image

SMALL = st.integers(0, 2**31 - 1)
FLOATS = st.floats(allow_nan=False)
TRAITS = st.builds(ImageStats, SMALL, SMALL, SMALL, SMALL, SMALL, FLOATS, FLOATS, st.binary(min_size=256, max_size=256))
EQUAL = st.just(ImageStats(8, 8, 8, 8, 8, 0.5, 0.5, bytes(256)))
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@settings(deadline=None)  # the first example imports pandas
@given(st.dictionaries(NAMES, TRAITS | EQUAL, max_size=4))
def test_traits_come_back_in_their_order(images: dict[str, ImageStats]) -> None:
    found = unpack_image_stats(pack_image_stats(images))
    assert found == images
    assert list(found) == list(images)


def test_what_was_measured_comes_back_with_its_types() -> None:
    measured, _ = check_image(image(), "a.jpg")
    assert measured is not None
    found = unpack_image_stats(pack_image_stats({"a.jpg": measured}))["a.jpg"]
    assert found == measured
    assert list(map(type, found)) == list(map(type, measured))
    assert hash(found) == hash(measured)
