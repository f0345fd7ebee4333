"""Who asks for a page of accounts, and what they may see there."""

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from infra.accounts.audit import Actor
from infra.accounts.names import OWNER
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor, came_through_the_front_door
from infra.front_page.access import person_of

if TYPE_CHECKING:
    from infra.front_page.people import People


def people_of(request: Request) -> "People":
    """Return what the pages of accounts share."""
    people: People = request.app.state.people
    return people


def client_address(connection: HTTPConnection) -> str:
    """Return the address of the client as the front door saw it: what stands before it, the client may have written."""
    return connection.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()[:45]


def client_of(request: Request, name: str = "", role: str = "") -> Actor:
    """Return who asks, for the audit log; the address of who came directly is this machine's."""
    is_outside = came_through_the_front_door(request, request.app.state.front_door_secret)
    address = client_address(request) if is_outside else "127.0.0.1"
    return Actor(name=name, role=role, address=address, request_id=request.headers.get("x-request-id", ""))


def require_front_door(request: Request) -> None:
    """Refuse a request that came directly: there the password of the machine is asked for, and nobody signs in.

    Raises:
        HTTPException: It did.
    """
    if not came_through_the_front_door(request, request.app.state.front_door_secret):
        raise HTTPException(
            404,
            "Expected the address of the front door, found that of the machine itself, on which "
            "its password is all that is asked for.",
        )


def require_person(request: Request) -> Actor:
    """Return the person with an account who asks.

    Raises:
        HTTPException: The owner of the machine asks, who has none.
    """
    require_front_door(request)
    person = _person(request)
    return client_of(request, person.name, str(person.role))


def require_admin(request: Request) -> Actor:
    """Return the admin who asks: with an account, or the owner of the machine.

    Raises:
        HTTPException: Somebody else asks.
    """
    person = _person(request)
    if person.role < UserRole.ADMIN:
        raise HTTPException(403, f"Expected an admin, found {person.name}, who is {person.role}. Ask one.")
    return client_of(request, person.name, str(person.role))


def _person(request: Request) -> Visitor:
    person = person_of(request, request.app.state.front_door_secret)
    if person is None:
        raise HTTPException(401, f"Expected somebody who has signed in, or {OWNER}, found nobody. Sign in.")
    return person
