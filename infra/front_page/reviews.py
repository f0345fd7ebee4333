"""Review with the keyboard: the images of a round, one at a time, and what a person says of each suggestion."""

import mimetypes
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from infra.front_page.bodies import read_body
from infra.front_page.pages import render
from tasks.importing.annotations import Outline, Pose, RotatedBox, Shape, Tag
from tasks.orchestration import deployed_flows
from tasks.rendering.palette import css_colour
from tasks.review import own_page
from tasks.review.rounds import Round, to_shapes
from tasks.review.standings import standing_of

_PRIVATE = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}


def show_review(request: Request) -> Response:
    """Answer with the page of a round, or lead to the tool in which people answer it."""
    try:
        run, review = _round(request)
    except own_page.OtherToolError as error:
        if not error.page:
            raise
        return RedirectResponse(error.page, 303)
    classes = [(name, css_colour(number)) for number, name in enumerate(review.class_names)]
    return render(request, "review.html", run=run, review=review, classes=classes)


def show_answered(request: Request) -> Response:
    """Answer with which images have an answer, and what has become of the round."""
    run, review = _round(request)
    standing = standing_of(run)
    return JSONResponse(
        {
            "answered": own_page.list_answered(run, review),
            "over": not standing.takes_answers,
            "standing": standing.words,
            "can_be_retried": standing.can_be_retried,
            "has_report": standing.has_report,
        }
    )


def resume(request: Request) -> Response:
    """Have the run go on if nothing is open: Prefect may have been away when the last image was answered."""
    _resume_if_done(*_round(request))
    return JSONResponse({})


def show_image(request: Request) -> Response:
    """Answer with the suggestions in an image, and what was answered about them."""
    run, review = _round(request)
    number = _number(request, review)
    image = review.images[number]
    found = own_page.find_answer(run, number)
    return JSONResponse(
        {
            "name": image.source,
            "reason": image.reason,
            "width": image.width,
            "height": image.height,
            "shapes": [
                {"name": shape.class_name, "confidence": confidence, "rings": _rings(shape), "points": _points(shape)}
                for shape, confidence in to_shapes(review.task, image)
            ],
            "answer": found and {"verdict": found["verdict"], "kept": found["kept"]},
        }
    )


def show_picture(request: Request) -> Response:
    """Answer with the picture of an image."""
    run, review = _round(request)
    name, data = own_page.read_picture(run, _number(request, review))
    return Response(data, headers=_PRIVATE, media_type=mimetypes.guess_type(name)[0] or "application/octet-stream")


async def answer(request: Request) -> Response:
    """Keep what a person says of an image; after the last one the run goes on.

    Raises:
        HTTPException: The answer is too long.
        StudioError: Nobody would read the answer, or it does not fit the image.
    """
    body = await read_body(request, own_page.MAX_ANSWER_BYTES)
    if body is None:
        raise HTTPException(413, f"Expected at most {own_page.MAX_ANSWER_BYTES:,} bytes, found more.")
    return await run_in_threadpool(_answer, request, body)


def _answer(request: Request, body: bytes) -> Response:
    run, review = _round(request)
    number = _number(request, review)
    own_page.keep_answer(run, review, number, own_page.read_answer(body))
    _resume_if_done(run, review)
    return JSONResponse({})


def _resume_if_done(run: str, review: Round) -> None:
    if all(own_page.list_answered(run, review)):
        deployed_flows.resume(UUID(run))


def _round(request: Request) -> tuple[str, Round]:
    run = str(request.path_params["run"])
    return run, own_page.read_round(run)


def _number(request: Request, review: Round) -> int:
    number: int = request.path_params["number"]
    if number >= len(review.images):
        raise HTTPException(404, f"Expected one of the {len(review.images)} images of this round, found another.")
    return number


def _rings(shape: Shape) -> list[list[list[float]]]:
    """Return the corners of a shape in pixels; a class of the whole image has none."""
    match shape:
        case Outline():
            return [ring.tolist() for ring in shape.rings]
        case RotatedBox():
            return [shape.corners.tolist()]
        case Tag():
            return []
        case _:
            left, top, right, bottom = shape.corners
            return [[[left, top], [right, top], [right, bottom], [left, bottom]]]


def _points(shape: Shape) -> list[list[float]]:
    """Return the places of the keypoints that are visible, in pixels."""
    return shape.keypoints[shape.keypoints[:, 2] > 0, :2].tolist() if isinstance(shape, Pose) else []


ROUTES = [
    Route("/reviews/{run:uuid}", show_review),
    Route("/reviews/{run:uuid}/answered", show_answered),
    Route("/reviews/{run:uuid}/resume", resume, methods=["POST"]),
    Route("/reviews/{run:uuid}/images/{number:int}", show_image),
    Route("/reviews/{run:uuid}/pictures/{number:int}", show_picture),
    Route("/reviews/{run:uuid}/answers/{number:int}", answer, methods=["POST"]),
]
