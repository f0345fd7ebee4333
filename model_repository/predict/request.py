"""The parameters of a request besides its image."""

import json
import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Self

from .errors import PredictError

CONFIDENCE = 0.25
AUTO: Final = "auto"
# The threshold of the NMS in the served graph.
SERVED_IOU = 0.7


class PredictRequest(NamedTuple):
    """The parameters of a request; `version` and `confidence` may be left out.

    Confidence `AUTO` takes the thresholds of the version.
    """

    model: str
    version: int | None = None
    confidence: float | Literal["auto"] | None = None
    iou: float = SERVED_IOU

    @classmethod
    def parse(cls, parameters: str) -> Self:
        """Read the JSON that Triton makes of request parameters and headers.

        Raises:
            PredictError: A parameter is unknown, or its value is not allowed.
        """
        # Header names come as the client wrote them.
        given = {name.lower(): value for name, value in json.loads(parameters or "{}").items()}
        unknown = sorted(given.keys() - set(cls._fields))
        if unknown:
            raise PredictError(f"expected parameters {', '.join(cls._fields)}, found {unknown[0][:80]!r}: leave it out")
        return cls(str(given.get("model", "")), _version(given), _confidence(given), _iou(given))


def _version(given: Mapping[str, object]) -> int | None:
    text = str(given.get("version", "")).strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) > 0):
        raise PredictError(f"expected `version` as a whole number from 1, found {text[:80]!r}: leave it out or mend it")
    return int(text)


def _confidence(given: Mapping[str, object]) -> float | Literal["auto"] | None:
    if "confidence" not in given:
        return None
    if str(given["confidence"]).strip() == AUTO:
        return AUTO
    value = _number(given["confidence"])
    if not 0 <= value <= 1:
        raise _unfit(given, "confidence", "from 0 to 1, or auto")
    return value


def _iou(given: Mapping[str, object]) -> float:
    if "iou" not in given:
        return SERVED_IOU
    value = _number(given["iou"])
    # As in batch inference, not 0: it would leave one of two boxes that touch by a rounded number.
    if not 0 < value <= SERVED_IOU:
        raise _unfit(given, "iou", f"above 0, up to {SERVED_IOU:g}")
    return value


def _number(given: object) -> float:
    try:
        return float(str(given))
    except ValueError:
        return math.nan


def _unfit(given: Mapping[str, object], name: str, expected: str) -> PredictError:
    return PredictError(f"expected `{name}` {expected}, found {str(given[name])[:80]!r}: mend it")
