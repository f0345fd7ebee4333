"""Review on the front page: each suggestion is kept, refused or given another class, and nothing is drawn.

An answer is `review-answers/<flow run id>/<number of the image>.json` in bucket `runs`, the one place there to which
the page may write. It has the form of Label Studio's API, so that what comes back is read as what people draw there. A
later answer replaces an earlier one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.review.answers import LONGEST_S, ReviewTask
from tasks.review.label_studio_format import CONTROL, LabelStudioAnswers, labelling_configuration, to_results, to_task
from tasks.review.pictures import Shown, for_browsers
from tasks.review.rounds import (
    PAGE,
    ROUND,
    Round,
    RoundImage,
    ToolName,
    image_key,
    round_key,
    to_shapes,
    unpack_round,
)
from tasks.review.standings import AnswerError, require_open
from tasks.settings import Settings
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, StorageError

MAX_ANSWER_BYTES = 1 << 20
_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class OtherToolError(StudioError):
    """A round that people answer elsewhere, at `page`, which is empty until it is known."""

    def __init__(self, tool: ToolName, page: str) -> None:
        """Say so of a tool, and where people answer in it."""
        fix = f"Answer there: {page}" if page else "The artifact `review` of its run will have the address."
        super().__init__(expected_found_fix("a round on this page", f"one in {tool}", fix))
        self.page = page


class PageAnswer(BaseModel):
    """What a person says of an image.

    Attributes:
        verdict: `done`, or why it has no labels: `skipped`, or `set_aside`, as an object is missing that must be drawn.
        kept: The suggestions that stay, by their places from 0, each with its class.
        seconds: For how long the image was open.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    verdict: Literal["done", "skipped", "set_aside"]
    kept: dict[str, str] = Field({}, max_length=10_000)
    seconds: Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)] | None = None


_ANSWER = TypeAdapter(PageAnswer)


class FrontPageTool(LabelStudioAnswers):
    """Review on the front page; every method raises StorageError."""

    advice = (
        "Keep, refuse or rename the suggestions of each image and submit it, also where nothing is to be changed. "
        "Nothing can be drawn there: set an image aside in which an object is missing."
    )

    def show(self, run: str, description: str, review: Round, shown: Shown, folder: Path) -> str:  # noqa: ARG002
        """Return the address of the page of a round.

        Raises:
            ClassNameError: An archive would not have a class as it is.
        """
        labelling_configuration(review)
        return f"{Settings().addresses.front_page}/reviews/{run}"

    def read(self, run: str, review: Round) -> Iterator[ReviewTask]:
        """Yield the images of a round with what was answered."""
        answered = _answered(run)
        for number, image in enumerate(review.images):
            found = (find_answer(run, number) or {}) if number in answered else {}
            verdict = found.get("verdict")
            yield to_task(
                image.entry,
                found.get("annotations", ()),
                skipped=verdict == "skipped",
                set_aside=verdict == "set_aside",
            )

    def is_open(self, run: str, timeout_s: float) -> bool:  # noqa: ARG002
        """Return True: the page itself has the run go on."""
        return True


@lru_cache(maxsize=8)
def read_round(run: str) -> Round:
    """Return the round on this page that a flow run has prepared, which never changes.

    Raises:
        OtherToolError: People answer it in another tool: nobody would read what is answered here.
        StorageError: It has prepared none, or the object store does not answer.
    """
    review = unpack_round(_RUNS.read_text(round_key(run, ROUND)).encode())
    if review.tool is not ToolName.FRONT_PAGE:
        raise OtherToolError(review.tool, (_RUNS.get(round_key(run, PAGE)) or b"").decode())
    return review


def read_picture(run: str, number: int) -> tuple[str, bytes]:
    """Return the name and the bytes of what a person sees of the image of this number.

    Raises:
        StorageError: It is not there any longer, or the object store does not answer.
    """
    entry = read_round(run).images[number].entry
    data = _RUNS.get(image_key(run, entry))
    if data is None:
        raise StorageError(f"Expected image {safe_repr(entry)} of this round, found none: clean-up has removed it.")
    return for_browsers(entry, data)


def read_answer(data: bytes) -> PageAnswer:
    """Return the answer of a body of a request.

    Raises:
        AnswerError: It is none.
    """
    try:
        return _ANSWER.validate_json(data)
    except ValueError as error:
        found = safe_repr(str(error), 300)
        raise AnswerError(expected_found_fix("the answer about an image", found, "Reload the page.")) from error


def keep_answer(run: str, review: Round, number: int, answer: PageAnswer) -> None:
    """Keep what a person says of the image of this number, in the place of what was said before.

    Raises:
        AnswerError: It names a suggestion or a class that is not there, or nobody would read it.
        StorageError: The object store does not answer.
    """
    image = review.images[number]
    annotations = []
    if answer.verdict == "done":
        results = _kept_results(review, image, answer.kept)
        annotations = [{"result": results, "lead_time": answer.seconds}]
    text = json.dumps({"verdict": answer.verdict, "kept": dict(answer.kept), "annotations": annotations})
    require_open(run)
    _RUNS.put(_key(run, number), text.encode(), "application/json")
    require_open(run)  # an archive that was begun meanwhile may lack it


def find_answer(run: str, number: int) -> dict[str, Any] | None:
    """Return the answer that is kept about the image of this number, as JSON; None if there is none."""
    stored = _RUNS.get(_key(run, number))
    found: dict[str, Any] | None = json.loads(stored) if stored else None
    if found and found["verdict"] == "incomplete":  # the word of an earlier release
        found["verdict"] = "set_aside"
    return found


def list_answered(run: str, review: Round) -> list[bool]:
    """Return of each image whether there is an answer about it."""
    answered = _answered(run)
    return [number in answered for number in range(len(review.images))]


def _answered(run: str) -> frozenset[int]:
    prefix = _key(run, "")
    names = (key.removeprefix(prefix).removesuffix(".json") for key in _RUNS.keys(prefix))
    return frozenset(int(name) for name in names if name.isdecimal())


def _kept_results(review: Round, image: RoundImage, kept: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    shapes = to_shapes(review.task, image)
    places = {str(place) for place in range(len(shapes))}
    if unknown := sorted(kept.keys() - places):
        expected = f"places of the {len(shapes)} suggestions of {safe_repr(image.entry)}"
        raise AnswerError(expected_found_fix(expected, safe_repr(unknown, 100), "Reload the page."))
    if foreign := sorted(set(kept.values()) - set(review.class_names)):
        found = safe_repr(foreign, 200)
        raise AnswerError(expected_found_fix(f"classes of {review.model_name}", found, "Reload the page."))
    results = to_results(shapes, image.width, image.height)
    by_id = {f"suggestion-{place}": name for place, name in kept.items()}
    own = [result for result in results if result.get("parentID", result["id"]) in by_id]
    for result in own:
        if result["from_name"] == CONTROL:
            result["value"][result["type"]] = [by_id[result["id"]]]
    return own


def _key(run: str, number: int | str) -> str:
    return f"review-answers/{run}/{number}{'.json' if number != '' else ''}"
