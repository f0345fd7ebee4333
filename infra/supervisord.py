"""supervisord (from PyPI) keeps the services up: its configuration, and control of the running one."""

import configparser
import contextlib
import io
import json
import os
import resource
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

import psutil

from infra.command_errors import StackError
from infra.stack_settings import HOST, ROOT, StackSettings, write_private

LAUNCHER = ROOT / "infra" / "launch.py"
STACK_ENV_VAR = "STUDIO_STACK"  # in the environment of whatever the stack starts
STOP_SECONDS = 20
WORKER = "worker"  # in the name of every service that carries out flow runs
FEWEST_FILES = 4096  # with fewer it does not start
MOST_FILES = 16384  # the supervisor closes each number, open or not, whenever it starts a service
LONGEST_LOG = "20MB"
KEPT_LOGS = 3  # of each service, beside the one that is written
_NOT_THERE = {6, 10, 70}  # SHUTDOWN_STATE, BAD_NAME and NOT_RUNNING of supervisor.xmlrpc.Faults


@dataclass(frozen=True, kw_only=True)
class Service:
    """One program under the supervisor; `check` raises if it is not well."""

    name: str
    address: str
    command: list[str]
    ports: dict[str, int]  # the setting that moves the port -> the port
    check: Callable[[], object]
    environment: dict[str, str] = field(default_factory=dict)  # all of it: nothing is inherited
    nice: int = 0  # how far it stands back behind the others, 0 to 19
    user: int | None = None  # a user of its own, with a group of the same number
    stop_signal: str = "TERM"
    stop_seconds: int = STOP_SECONDS  # after which it is killed


def bin_path(name: str) -> str:
    """Return the path of a program of the virtual environment that runs us."""
    return str(Path(sys.executable).parent / name)


def write_configuration(settings: StackSettings, services: list[Service]) -> Path:
    """Render supervisord.conf, and a file for each service with its command and its environment."""
    state = settings.state_dir
    config = configparser.RawConfigParser()
    config.read_dict(
        {
            "supervisord": {
                "logfile": log_file(settings, "supervisord"),
                "pidfile": state / "supervisord.pid",
                "logfile_maxbytes": LONGEST_LOG,
                "logfile_backups": KEPT_LOGS,
                "childlogdir": state / "logs",
                "directory": ROOT,
                "minfds": _most_files(),
                "umask": "077",
            },
            "inet_http_server": {
                "port": f"{HOST}:{settings.supervisor_port}",
                "username": "studio",
                "password": settings.secrets["supervisor"],
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
        }
    )
    for service in services:
        config.read_dict({f"program:{service.name}": _program(settings, service)})
    config.write(text := io.StringIO())
    path = state / "supervisord.conf"
    write_private(path, text.getvalue())
    return path


def _most_files() -> int:
    """How many files and connections each service may have open, within what this machine lets us raise it to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if hard == resource.RLIM_INFINITY else max(FEWEST_FILES, min(MOST_FILES, hard))


def _program(settings: StackSettings, service: Service) -> dict[str, object]:
    launched = settings.state_dir / "services" / f"{service.name}.json"
    environment = service.environment | {STACK_ENV_VAR: str(settings.state_dir)}
    launch = {"command": service.command, "environment": environment, "user": service.user, "nice": service.nice}
    write_private(launched, json.dumps(launch))
    return {
        "command": shlex.join([sys.executable, "-I", "-S", str(LAUNCHER), str(launched)]).replace("%", "%%"),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": 1,
        "startretries": 1000,  # a service that waits for another must not be given up
        "stopsignal": service.stop_signal,
        "stopwaitsecs": service.stop_seconds,
        "stopasgroup": "false" if service.user else "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": log_file(settings, service.name),
        "stdout_logfile_maxbytes": LONGEST_LOG,
        "stdout_logfile_backups": KEPT_LOGS,
    }


def log_file(settings: StackSettings, name: str) -> Path:
    """Return the path of the log of a service, or of `supervisord` itself."""
    return settings.state_dir / "logs" / f"{name}.log"


def process(settings: StackSettings) -> psutil.Process | None:
    """Return the running supervisord of this state folder, if any."""
    try:
        running = psutil.Process(int((settings.state_dir / "supervisord.pid").read_text()))
        ours = str(settings.state_dir / "supervisord.conf") in running.cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return running if ours and running.status() != psutil.STATUS_ZOMBIE else None


def is_up(settings: StackSettings) -> bool:
    """Return whether the stack runs, and nobody stops it now."""
    if process(settings) is None:
        return False
    with contextlib.suppress(OSError, HTTPException, xmlrpc.client.Error), connect(settings) as supervisor:
        return bool(supervisor.getState()["statename"] == "RUNNING")
    return False


@contextlib.contextmanager
def connect(settings: StackSettings) -> Iterator[Any]:
    """Yield the XML-RPC interface of the running supervisord."""
    url = f"http://studio:{settings.secrets['supervisor']}@{HOST}:{settings.supervisor_port}/RPC2"
    with xmlrpc.client.ServerProxy(url) as proxy:
        yield cast("Any", proxy).supervisor


def start(settings: StackSettings, configuration: Path, environment: Mapping[str, str]) -> None:
    """Start supervisord with no service running yet, and wait until it answers.

    Raises:
        RuntimeError: It does not start.
    """
    command = [bin_path("supervisord"), "-c", str(configuration)]
    marked = {**environment, STACK_ENV_VAR: str(settings.state_dir), "TZ": "UTC"}  # its log says no zone
    started = subprocess.run(command, env=marked, cwd=ROOT, check=False, capture_output=True, text=True)
    if started.returncode:
        raise RuntimeError(f"supervisord did not start: {started.stderr.strip() or started.stdout.strip()}")
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), connect(settings) as supervisor:
            supervisor.getState()
            return
        time.sleep(0.1)
    raise RuntimeError(f"supervisord did not start within 15 s; its log: {log_file(settings, 'supervisord')}")


def states(settings: StackSettings) -> dict[str, str]:
    """Return the state of each service, such as RUNNING; empty if the stack is down."""
    if process(settings) is None:
        return {}
    with connect(settings) as supervisor:
        return {entry["name"]: entry["statename"] for entry in supervisor.getAllProcessInfo()}


def start_service(settings: StackSettings, name: str) -> None:
    """Start one service unless it runs already; does not wait until it is well."""
    with connect(settings) as supervisor, contextlib.suppress(xmlrpc.client.Fault):
        supervisor.startProcess(name, False)


def signal_service(settings: StackSettings, name: str, signal: str) -> None:
    """Send a signal, such as HUP, to a service; one that does not run reads its files when it starts.

    Raises:
        StackError: It may run, and has not got the signal.
    """
    if process(settings) is None:
        return
    try:
        with connect(settings) as supervisor:
            supervisor.signalProcess(name, signal)
    except (OSError, HTTPException, xmlrpc.client.Error) as error:
        if isinstance(error, xmlrpc.client.Fault) and error.faultCode in _NOT_THERE:
            return
        found = f"{type(error).__name__}: {error}"
        raise StackError(
            f"Expected signal {signal} to reach {name}, found {found}. `studio status`, then this again."
        ) from error


def stop(settings: StackSettings) -> bool:
    """Stop the services and supervisord, and end whatever they left behind; False if nothing was running."""
    running = process(settings)
    if running is None:  # a supervisor that was killed leaves its services behind
        return _end(processes(settings))
    family = [running, *running.children(recursive=True)]
    # One that does not answer is ended below, with what it started.
    with contextlib.suppress(xmlrpc.client.Error, OSError, HTTPException), connect(settings) as supervisor:
        _stop_further_workers(settings, family)  # these first, while they can still report to Prefect
        stop_workers(supervisor)
        family += running.children(recursive=True)
        supervisor.stopAllProcesses(False)  # side by side: its shutdown would stop one after the other
        supervisor.shutdown()
    _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS + 10)
    _end([*alive, *processes(settings)])
    return True


def _stop_further_workers(settings: StackSettings, supervised: list[psutil.Process]) -> None:
    """Tell the workers that people have started in terminals here to end, and wait until they have handed over."""
    further = []
    for each in processes(settings):
        with contextlib.suppress(psutil.Error):
            if each not in supervised and "infra.worker" in each.cmdline():
                each.terminate()
                further.append(each)
    psutil.wait_procs(further, timeout=STOP_SECONDS)


def stop_workers(supervisor: Any) -> None:  # noqa: ANN401 - a proxy
    """Stop the workers side by side; the supervisor kills one that takes too long."""
    for each in supervisor.getAllProcessInfo():
        if WORKER in each["name"]:
            with contextlib.suppress(xmlrpc.client.Fault):
                supervisor.stopProcess(each["name"], False)
    while any(WORKER in each["name"] and each["pid"] for each in supervisor.getAllProcessInfo()):
        time.sleep(0.1)


def processes(settings: StackSettings) -> list[psutil.Process]:
    """Return every process that was started for this state folder, but for us and those we descend from."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    started = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if candidate.pid in ours or os.getpid() in {parent.pid for parent in candidate.parents()}:
                continue
            if candidate.environ().get(STACK_ENV_VAR) == str(settings.state_dir):
                started.append(candidate)
    return started


def _end(leftovers: list[psutil.Process]) -> bool:
    """Kill processes; False if there were none."""
    for leftover in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            leftover.kill()
    psutil.wait_procs(leftovers, timeout=5)
    return bool(leftovers)
