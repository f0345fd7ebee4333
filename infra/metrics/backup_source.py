"""How old the last backup of the stack is, and may be."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from infra.backup import last_backup
from infra.stack_settings import StackSettings


class BackupSource:
    """The last backup by `studio backup` or `studio upgrade`; of those by other programs nothing is known."""

    name = "backup"

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings

    def read(self) -> Iterable[Metric]:
        """Return when it was taken, unless there is none, and its limit, unless nobody is to be told."""
        return [*self._taken(), *self._limit()]

    def _taken(self) -> Iterator[Metric]:
        if last := last_backup.read(self._settings):
            yield GaugeMetricFamily(
                "studio_last_backup_timestamp_seconds", "When the last backup was taken.", value=last.taken.timestamp()
            )

    def _limit(self) -> Iterator[Metric]:
        if hours := self._settings.backup_hours:
            yield GaugeMetricFamily(
                "studio_backup_limit_seconds", "From which age on a backup is too old.", value=hours * 3600
            )
