"""Whether a service of this container answers: `python -I -S health.py URL`, with the standard library alone.

It is asked every few seconds, so it must not take the second in which the libraries of the service are imported.
"""

import sys
from http.client import HTTPException
from urllib.request import urlopen

ANSWERS_WITHIN_S = 5


def main() -> None:
    """Exit with 0 if the address answers 2xx, else with a message."""
    try:
        urlopen(sys.argv[1], timeout=ANSWERS_WITHIN_S).close()  # noqa: S310 - the address is in the image
    except (OSError, HTTPException) as error:
        sys.exit(f"expected {sys.argv[1]} to answer, found {error}")


if __name__ == "__main__":
    main()
