"""Become a program that takes a secret on its command line, without the secret in the list of processes.

The list shows the memory of the arguments. A helper stops the new program before its first instruction, and points the
argument into the environment, which its owner alone can read.
"""

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NoReturn

# From linux/ptrace.h and linux/prctl.h.
_CONTINUE = 7
_DETACH = 17
_SEIZE = 0x4206
_TRACE_EXEC = 0x10
_SET_TRACER = 0x59616D61
_STOPPED_AT_EXEC = signal.SIGTRAP | 4 << 8
_ALL_CHILDREN = 0x40000000
_LONGEST = 64 * 1024


def execute(command: Sequence[str], environment: Mapping[str, str], variable: str) -> NoReturn:
    """Replace this process; each argument that is the name of `variable` becomes its value for the program alone.

    If the system does not allow tracing, the value is in the list of processes, and a line on stderr says so.
    """
    line = list(command)
    if not _is_traced_by_helper(variable):
        sys.stderr.write("expected to hide a secret from the list of processes, found that no process may be traced\n")
        line = [environment[variable] if part == variable else part for part in line]
    sys.stdout.flush()
    os.execve(line[0], line, dict(environment))  # noqa: S606


def _is_traced_by_helper(variable: str) -> bool:
    """Start a helper, no child of ours, that waits for our `execve`; returns whether it may trace us."""
    process = os.getpid()
    replies, reply = os.pipe()
    starts, start = os.pipe()
    between = os.fork()
    if not between:
        helper = os.fork()
        if not helper:
            _help(process, variable, starts, reply)
        os.write(reply, struct.pack("=i", helper))
        os._exit(0)
    os.waitpid(between, 0)
    (helper,) = struct.unpack("=i", os.read(replies, 4))
    ctypes.CDLL(None).prctl(_SET_TRACER, helper, 0, 0, 0)  # some kernels let no other process trace us
    os.close(reply)
    os.write(start, b"+")
    traced = os.read(replies, 1) == b"+"
    for end in (replies, starts, start):
        os.close(end)
    return traced


def _help(process: int, variable: str, starts: int, reply: int) -> NoReturn:
    with suppress(Exception):  # whatever goes wrong, the program then does not know its secret, and does not start
        os.read(starts, 1)
        trace = ctypes.CDLL(None).ptrace
        trace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
        trace.restype = ctypes.c_long
        if trace(_SEIZE, process, 0, _TRACE_EXEC) == 0:
            os.write(reply, b"+")
            os.close(reply)
            while True:
                _, status = os.waitpid(process, _ALL_CHILDREN)
                if not os.WIFSTOPPED(status):
                    break
                if status >> 8 == _STOPPED_AT_EXEC:
                    _point_into_the_environment(process, variable.encode())
                    trace(_DETACH, process, 0, 0)
                    break
                trace(_CONTINUE, process, 0, os.WSTOPSIG(status))
    os._exit(0)


def _point_into_the_environment(process: int, variable: bytes) -> None:
    """The stack begins with the number of arguments, pointers to them, a zero, and pointers to the environment."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    start = int(fields[25])
    with FileIO(f"/proc/{process}/mem", "r+") as memory:
        count = _word(memory, start)
        arguments = [at for at, text in _texts(memory, start + 8) if text == variable]
        for at, text in _texts(memory, start + 8 * (count + 2)):
            if text.startswith(variable + b"="):
                value = _word(memory, at) + len(variable) + 1
                for argument in arguments:
                    memory.seek(argument)
                    memory.write(struct.pack("=Q", value))


def _texts(memory: FileIO, at: int) -> Iterator[tuple[int, bytes]]:
    """The address of each pointer and the text that it points to, up to the one that is zero."""
    while pointer := _word(memory, at):
        memory.seek(pointer)
        yield at, memory.read(_LONGEST).partition(b"\0")[0]
        at += 8


def _word(memory: FileIO, at: int) -> int:
    memory.seek(at)
    return int(struct.unpack("=Q", memory.read(8))[0])
