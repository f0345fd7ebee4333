"""When an event occurred: by the clock of Prefect's server, if that of its sender is another.

Automations compare when the heartbeat of a run occurred, by the clock of the machine that it runs on, with when the run
began, by the server's. If a machine is more than a minute behind, no heartbeat counts, and each live run of it is
marked Crashed after 90 s; if it is an hour ahead, a run that has died there is noticed after that hour.
"""

from datetime import timedelta
from typing import Any

from prefect.server.events.schemas.events import Event, ReceivedEvent

TOLERANCE = timedelta(seconds=30)  # the time from one heartbeat to the next


def use_the_servers_clock() -> None:
    """Have each event that comes with a time further than `TOLERANCE` from now get the time at which it comes.

    So do those that a client kept while the server was away.
    """
    receive = Event.receive

    def receive_in_time(self: Event, received: Any = None) -> ReceivedEvent:  # noqa: ANN401 - a private type
        event = receive(self, received)
        if abs(event.received - event.occurred) > TOLERANCE:
            return event.model_copy(update={"occurred": event.received})
        return event

    Event.receive = receive_in_time  # type: ignore[method-assign]  # Prefect has no other way in
