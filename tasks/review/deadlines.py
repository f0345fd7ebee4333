"""Until when people may answer a round: kept in the state of the suspended run, where the patrol finds it."""

from datetime import datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import State

# In it the patrol resumes a round whose time is over; after it, Prefect would fail the run.
_GRACE = timedelta(days=1)


def expiry_of(deadline: datetime) -> datetime:
    """Return when Prefect may fail a run that nobody has resumed."""
    return deadline + _GRACE


def deadline_of(state: State[Any]) -> datetime | None:
    """Return until when people may answer a review that is suspended so; None if it does not wait for them."""
    expiry = state.state_details.pause_timeout
    return expiry - _GRACE if expiry else None
