"""How often something may fail: counted in memory, by name and by address, with a bound of both."""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence


class Attempts:
    """Counts attempts by key; within `window_s` seconds from the first on, `most` may fail.

    It remembers `keys` keys: the one that has rested for longest is forgotten first.
    """

    def __init__(
        self, most: int, window_s: float, *, keys: int = 20_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._window_s, self._keys, self._clock = most, window_s, keys, clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Count an attempt before it is known whether it fails; return the seconds to wait if it may not be made."""
        with self._lock:
            began, count = self._counts.pop(key, (self._clock(), 0))
            if began + self._window_s <= self._clock():
                began, count = self._clock(), 0
            is_over = count >= self._most
            self._counts[key] = (began, count if is_over else count + 1)
            if len(self._counts) > self._keys:
                self._counts.popitem(last=False)
            return began + self._window_s - self._clock() if is_over else 0.0

    def give_back(self, key: str) -> None:
        """Take an attempt off again: it did not fail, or was not made."""
        with self._lock:
            if key in self._counts:
                began, count = self._counts[key]
                self._counts[key] = (began, max(count - 1, 0))


def take_all(wanted: Sequence[tuple[Attempts, str]]) -> float:
    """Count an attempt with each of these; return the seconds to wait, and count none, if one does not allow it."""
    for place, (attempts, key) in enumerate(wanted):
        if wait := attempts.take(key):
            give_back_all(wanted[:place])
            return wait
    return 0.0


def give_back_all(wanted: Sequence[tuple[Attempts, str]]) -> None:
    """Take an attempt off each of these again."""
    for attempts, key in wanted:
        attempts.give_back(key)


def network_of(address: str) -> str:
    """Return what is counted as one address: of IPv6 the network of 64 bits, of which one person has all addresses."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        return (
            str(ipaddress.ip_network((found, 64), strict=False))
            if found.ipv4_mapped is None
            else str(found.ipv4_mapped)
        )
    return str(found)
