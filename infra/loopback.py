"""Where every service of the local stack listens, and by which names it is reached."""

import os

HOST = "127.0.0.1"


def our_names() -> frozenset[str]:
    """Return the names of this machine, and those that STUDIO_HOSTS adds for a service in a container."""
    added = os.environ.get("STUDIO_HOSTS", "").lower().split(",")
    return frozenset({HOST, "localhost", *filter(None, map(str.strip, added))})
