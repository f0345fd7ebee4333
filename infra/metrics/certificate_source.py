"""Metrics of the certificate of the front door, if there is one."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from infra.front_door import read_certificate
from infra.stack_settings import StackSettings


class CertificateSource:
    """From when to when people get in through the front door of this stack."""

    name = "front-door"

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings

    def read(self) -> Iterable[Metric]:
        """Return start and end of the certificate that browsers get.

        Raises:
            OSError: The front door does not answer.
        """
        certificate = read_certificate(self._settings)
        times = {"start": certificate.not_valid_before_utc, "end": certificate.not_valid_after_utc}
        return [
            GaugeMetricFamily(
                f"studio_front_door_certificate_{name}_timestamp_seconds",
                f"The {name} of the certificate of the front door.",
                value=time.timestamp(),
            )
            for name, time in times.items()
        ]
