"""Sizes of files, in words."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def format_bytes(size: int) -> str:
    """Return bytes as people read them: `812 bytes`, `3.4 MB`."""
    value = float(size)
    for unit in _UNITS[:-1]:
        if value < 1000:
            return f"{size} {unit}" if unit == _UNITS[0] else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"
