"""What others look at in the same images, each in a process of its own: `python peers.py PEER FOLDER` prints seconds.

Only the standard library is imported here, because CleanVision's environment has nothing of ours.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

CLEANVISION = "cleanvision==0.3.7"


def label_scan(folder: str) -> float:
    """Ultralytics: read every label and every image's header, as the first training on a dataset does."""
    from ultralytics.data.dataset import YOLODataset

    classes = dict(enumerate(("plate", "ball", "cone")))
    began = time.perf_counter()
    for split in ("train", "val"):
        Path(folder, "labels", f"{split}.cache").unlink(missing_ok=True)
        YOLODataset(img_path=f"{folder}/images/{split}", data={"names": classes, "channels": 3}, task="detect")
    return time.perf_counter() - began


def cleanvision(folder: str) -> float:
    """CleanVision: all of its default issue types, with as many processes as it likes."""
    from cleanvision import Imagelab  # type: ignore[import-not-found]

    began = time.perf_counter()
    Imagelab(data_path=f"{folder}/images").find_issues(verbose=False)
    return time.perf_counter() - began


def seconds_of(peer: str, folder: Path, python: str = sys.executable) -> float:
    """Run one of the peers above under a Python that has it; raises CalledProcessError where it fails."""
    command = [python, __file__, peer, str(folder)]
    env = {**os.environ, "YOLO_VERBOSE": "false"}
    done = subprocess.run(command, check=True, env=env, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def cleanvision_python() -> str:
    """Return the Python of CleanVision's environment, made at the first call; raises CalledProcessError without it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolo-studio" / CLEANVISION
    python = str(home / "bin" / "python")
    uv = [sys.executable, "-m", "uv"]
    # An environment that an earlier call left half made is mended by the second command.
    for command in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(home)],
        ["pip", "install", "--quiet", "--python", python, CLEANVISION],
    ):
        subprocess.run([*uv, *command], check=True, capture_output=True, text=True)
    return python


if __name__ == "__main__":
    peers = {"label_scan": label_scan, "cleanvision": cleanvision}
    print(peers[sys.argv[1]](sys.argv[2]))
