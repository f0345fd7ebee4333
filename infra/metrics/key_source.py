"""Whether a rotation of the keys was cut short."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from infra.rotation.state import stalled_s
from infra.stack_settings import StackSettings


class KeySource:
    """Rotations of the passwords and keys of the stack; until one has ended, the former values open the doors, too."""

    name = "keys"

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings

    def read(self) -> Iterable[Metric]:
        """Return for how long the one that is under way has not gone on."""
        text = "For how long the key rotation that is under way has not gone on; 0 if there is none."
        value = stalled_s(self._settings.state_dir)
        return [GaugeMetricFamily("studio_key_rotation_stalled_seconds", text, value=value)]
