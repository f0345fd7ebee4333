"""How the images of a merged dataset are named: `00-000003-x.jpg` is number 3 of its split from the first archive."""


def archive_prefix(place: int) -> str:
    """Return the first part of a name, by the place of the archive in the plan."""
    return f"{place:02d}"


def image_prefix(archive: str, index: int) -> str:
    """Return how a name begins, by its first part and the number of the image in its split."""
    return f"{archive}-{index:06d}"
