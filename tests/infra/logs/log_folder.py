"""Log files for tests."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

BEGIN = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def ours(second: float, message: str, **fields: object) -> str:
    """A line of our own processes."""
    time = (BEGIN + timedelta(seconds=second)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    known = {"time": time, "level": "info", "service": "worker", "logger": "l", "message": message}
    return json.dumps(known | fields)


def glog(second: float, message: str, level: str = "I") -> str:
    """A line of SeaweedFS."""
    return f"{level}{BEGIN + timedelta(seconds=second):%m%d %H:%M:%S.%f} a.go:1 {message}"


def write(path: Path, *lines: str | bytes, end: str = "\n") -> Path:
    """Write a log file."""
    data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    path.write_bytes(data + end.encode())
    return path
