"""Makes `release-0.1.0.tar.xz`, a small stack of the release before: `python -m tests.stacks.make_release_0_1_0`.

It checks the last commit of release 0.1.0 out, runs its demo there with a detector of 200,000 weights on a few drawn
images (two archives, a training of an epoch, a deployment, an inference), stops that stack, and takes a backup of its
databases and objects with the present code, as `make upgrade` does. Of the release's pins those of the present
environment differ in SQLAlchemy alone (2.1.9 there).
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from infra.demo_data import CLASSES, ArchivePlan, write_archive
from tests.paths import ROOT
from tests.stack_environment import set_environment

COMMIT = "020406a6~1"
FILE = Path(__file__).with_name("release-0.1.0.tar.xz")
# A quarter of the width and depth of yolo11n.
SCALE = (0.25, 0.0625, 256)


def main() -> None:
    """Make the file."""
    state = set_environment(stack=True)
    folder = state.parent
    checkout = folder / "checkout"
    environment = {name: os.environ[name] for name in os.environ if not name.startswith(("AWS_", "STUDIO_LIVE_LOG"))}
    environment |= {"PYTHONPATH": str(checkout), "STUDIO_TRITON_VENV": str(ROOT / ".venv-triton")}
    git = shutil.which("git") or "git"
    subprocess.run([git, "clone", "-q", str(ROOT), str(checkout)], check=True)
    subprocess.run([git, "checkout", "-q", COMMIT], cwd=checkout, check=True)
    for name in (".venv", ".venv-triton"):
        (checkout / name).symlink_to((ROOT / name).resolve())
    archives = [
        write_archive(ArchivePlan(name=f"old-{part}.zip", classes=CLASSES, train=12, val=6, seed=seed), folder)
        for seed, part in enumerate("ab")
    ]
    command = ["-m", "infra.demo", "--archives", *map(str, archives), "--base-model", str(make_weights(folder))]
    try:
        old = [sys.executable, *command, "--model", "old", "--epochs", "1", "--imgsz", "64"]
        subprocess.run(old, cwd=checkout, env=environment, check=True)
    finally:
        subprocess.run([sys.executable, "-m", "infra.stack", "down"], cwd=checkout, env=environment, check=True)
    pack(folder / "backup")
    shutil.rmtree(folder)


def make_weights(folder: Path) -> Path:
    """Weights of a small detector that has learned nothing."""
    import yaml
    from ultralytics.models import YOLO
    from ultralytics.utils import ROOT as ULTRALYTICS

    plan = yaml.safe_load((ULTRALYTICS / "cfg/models/11/yolo11.yaml").read_text())
    architecture = folder / "yolo11n.yaml"
    architecture.write_text(yaml.safe_dump(plan | {"scales": {"n": list(SCALE)}}))
    path = folder / "small.pt"
    model: object = YOLO(architecture)
    model.save(path)  # type: ignore[attr-defined]
    return path


def pack(backup: Path) -> None:
    """Take a backup of the stack of the environment, which is down, into a file."""
    from infra.backup.data_services import data_services
    from infra.backup.taking import take
    from infra.stack_settings import StackSettings
    from tasks.storage.object_store import ObjectStore

    settings = StackSettings.load()
    shutil.rmtree(settings.state_dir / "demo", ignore_errors=True)
    with data_services(settings):
        runs = ObjectStore("runs")  # the training has ended: clean-up removes its checkpoints, too
        runs.delete(*(key for key in runs.keys("") if "/checkpoints/" in key))
        take(settings, backup, print, at_work=False)
    with tarfile.open(FILE, "w:xz") as tar:
        tar.add(backup, arcname="backup")
    print(f"{FILE}: {FILE.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
