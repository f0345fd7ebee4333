"""What a run would do that a person should know before it starts, by flow: sentences for the dialog."""

from collections.abc import Callable, Mapping
from typing import Any

Parameters = Mapping[str, Any]
CONSEQUENCES: Mapping[str, Callable[[Parameters], tuple[str, ...]]] = {}
