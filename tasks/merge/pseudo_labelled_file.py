"""`pseudo-labelled.json`, beside the `data` of a dataset: the images whose labels a model has made."""

import json
from dataclasses import dataclass
from pathlib import Path

_FILE = "pseudo-labelled.json"


@dataclass(frozen=True)
class PseudoLabelled:
    """The images of split train whose labels a model has made, by how their files are named: `00-000003`."""

    prefixes: frozenset[str] = frozenset()

    def __contains__(self, image: Path) -> bool:
        """Return whether a written image of split train, or a link to it, is one of them: `00-000003-x.jpg`."""
        archive, index, *_ = image.name.split("-")
        return f"{archive}-{index}" in self.prefixes


def write_pseudo_labelled(data: Path, images: PseudoLabelled) -> None:
    """Write the file beside `data` (data.yaml, or the folder of a tree), if there are any."""
    if images.prefixes:
        (_folder(data) / _FILE).write_text(json.dumps(sorted(images.prefixes)), encoding="utf-8")


def read_pseudo_labelled(data: Path) -> PseudoLabelled:
    """Return what was written beside `data`; no image if nothing was."""
    try:
        return PseudoLabelled(frozenset(json.loads((_folder(data) / _FILE).read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return PseudoLabelled()


def _folder(data: Path) -> Path:
    return data if data.is_dir() else data.parent
