"""Server processes that outlive their starter: found again by a pid file, ended within limits."""

import contextlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from schemas import limits


def find(pid_file: Path, argument: Path) -> psutil.Process | None:
    """The running process whose pid is on the file's first line.

    A pid file can be older than a reboot and its number another program's by now: only a process
    that was started with `argument` is the one.
    """
    with contextlib.suppress(FileNotFoundError, IndexError, ValueError, psutil.Error):
        process = psutil.Process(int(pid_file.read_text("utf-8").splitlines()[0]))
        if str(argument) in process.cmdline() and not _ended(process):
            return process
    return None


def await_arguments(pid: int) -> None:
    """Wait until a process just started shows its arguments: till then `find` knows it not."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        while not process.cmdline():
            time.sleep(0.001)


def await_end(processes: Sequence[psutil.Process]) -> None:
    """Wait until all have ended; past LOCAL_STOP_MS_MAX they are killed."""
    deadline = time.monotonic() + limits.LOCAL_STOP_MS_MAX / limits.SECOND_MS
    while any(not _ended(process) for process in processes):
        if time.monotonic() > deadline:
            kill(processes)
            return
        time.sleep(0.02)


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL to all, and wait for it to be done."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    while any(not _ended(process) for process in processes):
        time.sleep(0.02)


_SETTING: Final = re.compile(r"\t[\w.]+ = ")


def log_tail(log: Path) -> str:
    """The last lines of a server's log, and before them where it first told of an error: what it
    says while it ends may be longer than the tail. The broker may list its hundreds of settings
    just then; they are left out."""
    most = limits.LOCAL_LOG_TAIL_LINES_MAX
    lines = log.read_text("utf-8", "replace").splitlines()
    lines = [line for line in lines if not _SETTING.match(line)][-10 * most :]
    tail_at = max(0, len(lines) - most)
    error_at = next(
        (at for at, line in enumerate(lines) if "ERROR" in line or "FATAL" in line), tail_at
    )
    early = lines[error_at : min(error_at + most, tail_at)]
    return "\n".join([*early, *["…"][: len(early)], *lines[tail_at:]])


def _ended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        if not process.is_running():
            return True
        if process.status() != psutil.STATUS_ZOMBIE:
            return False
        # Ended, and its parent has yet to notice; which need not be this process.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
    return True
