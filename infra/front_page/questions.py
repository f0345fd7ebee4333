"""Deployments that wait for a person: what they ask, and the answer."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.accounts.visitors import visitor_of
from infra.front_page.bodies import read_form
from infra.front_page.markdown import render_markdown
from infra.front_page.pages import render
from tasks.deployment import approval
from tasks.errors import StudioError
from tasks.orchestration import questions
from tasks.settings import Settings

_MAX_BYTES = 2**16


def show_questions(request: Request) -> Response:
    """Return the questions that wait, each with a form to approve or refuse."""
    addresses = Settings().addresses
    own = (addresses.prefect, addresses.mlflow, addresses.live)
    waiting = [(each, render_markdown(each.description, own)) for each in questions.list_open_questions()]
    return render(request, "questions.html", waiting=waiting)


async def approve(request: Request) -> Response:
    """Approve what a run asks about; form fields `name`, unless somebody has signed in, and `comment`."""
    return await _answer(request, approved=True)


async def refuse(request: Request) -> Response:
    """Refuse what a run asks about; form fields `name`, unless somebody has signed in, and `comment`."""
    return await _answer(request, approved=False)


async def _answer(request: Request, *, approved: bool) -> Response:
    fields = await read_form(request, _MAX_BYTES)
    name, comment = (fields.get(field, [""])[-1] for field in ("name", "comment"))
    if visitor := visitor_of(request, request.app.state.front_door_secret):
        name = visitor.name  # who has signed in answers in no other name
    if not name.strip():
        raise StudioError("Expected your name, found none. Fill in the field “Your name”: it is kept with the answer.")
    await run_in_threadpool(approval.answer, request.path_params["run"], approved, name, comment)
    return render(request, "answered.html", events=["studio:changed"], approved=approved)


ROUTES = [
    Route("/questions", show_questions),
    Route("/questions/{run:uuid}/approve", approve, methods=["POST"]),
    Route("/questions/{run:uuid}/refuse", refuse, methods=["POST"]),
]
