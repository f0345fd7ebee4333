"""`python -m tests.gpu_proof`: each part in turn, a line for each, and at the end a table and `gpu-proof.json`.

It imports the standard library alone. Packages that the image lacks come from an archive of `tests.gpu_proof.packages`.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.gpu_proof.packages import FOLDER, archive_of, unpack
from tests.gpu_proof.part import PARTS, SKIPPED
from tests.gpu_proof.setup import CPU, GPU, Setup

ROOT = Path(__file__).resolve().parents[2]
WHOLE_S = 600.0
PATIENCE = 3  # times as long on a processor, which others may use, too
DEADLINES_S = {
    "machine": 60.0,
    "train": 180.0,
    "resume": 180.0,
    "memory": 120.0,
    "processes": 120.0,
    "export": 60.0,
    "model": 90.0,
    "served": 150.0,
    "pipe": 90.0,
    "video": 90.0,
}
STAND_INS = ("polars", "matplotlib")


class Done(NamedTuple):
    """How a part ended: passed, failed, skipped or late, in so many seconds, and what there is to say."""

    part: str
    verdict: str
    seconds: float
    sentence: str
    figures: list[dict[str, object]]


def main() -> int:
    """Run the proof; status 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="small sizes on the processor, also where there is a GPU")
    parser.add_argument("--packages", type=Path, default=ROOT / FOLDER, help="folder of the carried packages")
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu-proof", help="folder of the result; it is emptied")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"parts to do, all without: {', '.join(PARTS)}")
    chosen = parser.parse_args()
    if unknown := sorted({*chosen.parts} - {*PARTS}):
        parser.error(f"expected parts of {', '.join(PARTS)}, found {', '.join(unknown)}")
    out = chosen.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-proof-") as scratch:
        work = Path(scratch)
        environment = _environment(work, chosen.packages)
        setup = Setup(folder=work, device="cpu", gpus=0, scale=CPU)
        ended = []
        for part in (each for each in PARTS if each in {"machine", *(chosen.parts or PARTS)}):
            factor = 1 if setup.device != "cpu" else PATIENCE
            left = factor * WHOLE_S - (time.monotonic() - began)
            done = _do(part, setup, environment, out, min(factor * DEADLINES_S[part], left))
            ended.append(done)
            print(f"{done.part:<10} {done.verdict:<8} {done.seconds:6.1f} s  {done.sentence}", flush=True)
            if part == "machine":
                machine = setup.result("machine").get("left", {})
                if machine.get("gpus") and not chosen.cpu:
                    setup = Setup(folder=work, device="0", gpus=machine["gpus"], scale=GPU)
    table = _table(ended, "processor, small sizes" if setup.device == "cpu" else str(machine.get("card")))
    told = {"machine": machine, "device": setup.device, "parts": [done._asdict() for done in ended]}
    (out / "gpu-proof.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    (out / "gpu-proof.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\n{out / 'gpu-proof.json'}")
    return int(any(done.verdict in {"failed", "late"} for done in ended))


def _environment(work: Path, packages: Path) -> dict[str, str]:
    """The environment of the parts: this checkout, carried packages, then what the image has."""
    archive = archive_of(packages)
    paths = [ROOT]
    if archive.is_file():
        began = time.monotonic()
        unpack(archive, work / "packages")
        print(f"{archive.name}: {archive.stat().st_size / 2**20:.1f} MiB, unpacked in {time.monotonic() - began:.0f} s")
        paths.append(work / "packages")
    else:
        print(f"no {archive}: the packages of this environment are used (`make gpu-wheels` makes it)")
    beside = work / "stand-ins"
    beside.mkdir()
    for name in STAND_INS:
        if find_spec(name) is None:
            print(f"no {name}: a stand-in of a few lines is used")
            shutil.copy(Path(__file__).with_name("stand_ins") / f"{name}.py", beside)
    (work / "ultralytics").mkdir()
    (work / "ultralytics" / "Arial.ttf").touch()  # else Ultralytics asks the network for it, though nothing is drawn
    nowhere = "http://127.0.0.1:9"  # a network that swallows packets would let Ultralytics wait for half a minute
    return os.environ | {
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "PYTHONPATH": os.pathsep.join(filter(None, [*map(str, [*paths, beside]), os.environ.get("PYTHONPATH")])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "YOLO_CONFIG_DIR": str(work / "ultralytics"),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
    }


def _do(part: str, setup: Setup, environment: dict[str, str], out: Path, most: float) -> Done:
    """Do a part in a process of its own, which is killed with its children after `most` seconds."""
    began = time.monotonic()
    log = out / f"{part}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.gpu_proof.part", part],
            cwd=setup.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        try:
            process.communicate(setup.to_json(), timeout=max(most, 0.1))
            is_late = False
        except subprocess.TimeoutExpired:
            is_late = True
        finally:  # trainings are sessions of their own, and end within a second of this one
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = time.monotonic() - began
    if process.returncode == 0:
        result = setup.result(part)
        return Done(part, "passed", seconds, result["sentence"], result["figures"])
    if is_late:
        return Done(part, "late", seconds, f"expected an end within {most:.0f} s, found none: {log}", [])
    reason = setup.folder / f"{part}.reason"
    if reason.is_file():
        verdict = "skipped" if process.returncode == SKIPPED else "failed"
        return Done(part, verdict, seconds, reason.read_text(encoding="utf-8"), setup.result(part).get("figures", []))
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    return Done(part, "failed", seconds, f"{last[:300]} ({log})", [])


def _table(ended: list[Done], device: str) -> str:
    lines = [f"| on {device} | | beside | | ratio |", "|---|---|---|---|---|"]
    for done in ended:
        if done.verdict != "passed":
            lines.append(f"| {done.part} | {done.verdict} | {done.sentence[:120].replace('|', '/')} | | |")
        for figure in done.figures:
            limit, ratio = (figure[name] for name in ("limit", "ratio"))
            beside = f"{limit:,.1f}" if isinstance(limit, float) else ""
            share = f"{ratio:.2f}" if isinstance(ratio, float) else ""
            against = figure["against"] if beside else ""
            lines.append(
                f"| {figure['what']} | {figure['value']:,.1f} {figure['unit']} | {against} | {beside} | {share} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
