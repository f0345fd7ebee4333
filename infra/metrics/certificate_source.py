"""Metric of the certificate of the front door, if there is one."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from infra.front_door import certificate_end
from infra.stack_settings import StackSettings


class CertificateSource:
    """When nobody gets in any longer through the front door of this stack."""

    name = "front-door"

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings

    def read(self) -> Iterable[Metric]:
        """Return the end of the certificate.

        Raises:
            OSError: The front door does not answer, or its authority has no certificate yet.
        """
        text = "When the certificate of the front door, or that of its own authority, ends."
        end = certificate_end(self._settings).timestamp()
        return [GaugeMetricFamily("studio_front_door_certificate_end_timestamp_seconds", text, value=end)]
