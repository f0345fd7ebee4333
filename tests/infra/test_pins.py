"""What `make setup` installs is pinned by its content."""

import re

import pytest

from infra.stack_settings import ROOT

FILES = sorted(path.name for path in ROOT.glob("requirements*.txt"))


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_with_hashes_and_no_registry_is_named(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", "")
    pins = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert len(pins) > 40
    assert [
        pin.split()[0] for pin in pins if not re.fullmatch(r"\S+==\S+( ; .+?)?(\s+--hash=sha256:[0-9a-f]{64})+", pin)
    ] == []
    assert "://" not in text


def test_setup_takes_nothing_without_a_hash() -> None:
    installs = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "pip sync" in line or "pip install" in line
    ]
    (own,) = [line for line in installs if line.endswith("--editable .")]
    assert "--no-deps --no-build-isolation" in own  # this project, made with what is pinned
    assert len(installs) > 1
    assert all("--require-hashes" in line for line in installs if line != own)
