"""From the stack of an earlier release to this one: a backup, then each change of the layout, then the databases.

Every step can be killed and begun again: a layout counts as reached when all is done for it. Prefect's server changes
its database by itself when it starts; MLflow's does not.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from infra import layout, stack
from infra.backup.data_services import data_services
from infra.backup.taking import take
from infra.command_errors import StackError
from infra.services import database_address
from infra.stack_settings import StackSettings
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore

Echo = Callable[[str], None]


def upgrade(settings: StackSettings, folder: Path, say: Echo) -> None:
    """Move the stack of an earlier release to this one, after a backup of it into `folder`, and start it.

    Raises:
        StackError: There is no stack, it is of a newer release, or its PostgreSQL is of another major version.
        StorageError: The object store does not answer.
    """
    layout.require_whole(settings)
    if not layout.has_data(settings):
        raise StackError(
            f"Expected a stack in {settings.state_dir}, found none. `studio up` makes one of this release."
        )
    found = layout.read(settings)
    layout.require_supported(settings, found)
    if not layout.is_older(found):
        say(f"the stack in {settings.state_dir} is of this release already")
        stack.up(settings, say)
        return
    stack.down(settings)
    say(f"from release {found.release}, layout {found.layout}, to {layout.release()}, layout {layout.LAYOUT}")
    with data_services(settings):
        name, _ = take(settings, folder, say, at_work=False)
        say(f"  backup {name} is in {folder}: `studio restore` of the earlier state needs it")
        for number in range(found.layout, layout.LAYOUT):
            say(f"  layout {number + 1}: {MIGRATIONS[number](settings)}")
            layout.write(settings, found.model_copy(update={"layout": number + 1}))
        if not settings.is_elsewhere("MLFLOW_TRACKING_URI"):
            _upgrade_mlflow(settings)
    layout.write(settings, layout.present())
    stack.up(settings, say)


def _to_locks_of_one_object(settings: StackSettings) -> str:  # noqa: ARG001 - each migration has it
    """Remove the chains of 0.1.0, `runs/locks/NAME/NUMBER`; since then a lock is `runs/locks/NAME/holder`.

    Nothing is at work now, so nobody holds one.
    """
    store = ObjectStore(Bucket.RUNS)
    chains = [key for key in store.keys("locks/") if key.rpartition("/")[2].isdecimal()]
    store.delete(*chains)
    return f"{len(chains)} objects of former locks are gone"


def _upgrade_mlflow(settings: StackSettings) -> None:
    """Bring the tables of runs and models to those of the installed MLflow; the server brings those of its users.

    Raises:
        StackError: MLflow cannot.
    """
    address = database_address(settings, "mlflow", "postgresql+psycopg2")
    script = "import sys; from mlflow.db import upgrade; upgrade.callback(sys.stdin.read())"  # `mlflow db upgrade`
    done = subprocess.run([sys.executable, "-c", script], input=address, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(
            f"MLflow's database could not be changed for this release: {done.stderr.strip()[-2000:]} Restore the "
            "backup with the release that made the stack."
        )


MIGRATIONS: Mapping[int, Callable[[StackSettings], str]] = {1: _to_locks_of_one_object}
