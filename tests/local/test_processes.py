"""Processes are known by their pid and their arguments, and their logs told from the error on."""

import os
import shutil
from pathlib import Path

import psutil

from local import processes
from schemas import limits


def test_a_process_is_known_from_its_first_moment() -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    for _ in range(50):
        pid = os.posix_spawn(sleep, [sleep, "60"], os.environ, setsid=True)
        try:
            processes.await_arguments(pid)
            assert psutil.Process(pid).cmdline() == [sleep, "60"]
        finally:
            processes.kill([psutil.Process(pid)])


def test_one_that_ended_at_once_is_not_waited_for() -> None:
    true = shutil.which("true")
    assert true is not None
    pid = os.posix_spawn(true, [true], os.environ, setsid=True)
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        pass
    processes.await_arguments(pid)
    os.waitpid(pid, 0)


def test_the_tail_of_a_log_begins_with_the_first_error(tmp_path: Path) -> None:
    most = limits.LOCAL_LOG_TAIL_LINES_MAX
    log = tmp_path / "log"
    log.write_text("\n".join(["starting", "ERROR port taken", *["stopping"] * 3 * most, "end"]))
    tail = processes.log_tail(log).splitlines()
    assert tail[0] == "ERROR port taken"
    assert tail[-1] == "end"
    assert len(tail) == 2 * most + 1
    settings = [f"\tssl.protocol.{number} = TLSv1.3" for number in range(20 * most)]
    log.write_text("\n".join(["ERROR port taken", "\tat a.Frame", *settings, "end"]))
    assert processes.log_tail(log).splitlines() == ["ERROR port taken", "\tat a.Frame", "end"]
    log.write_text("\n".join(["starting"] * 3 * most))
    assert processes.log_tail(log).splitlines() == ["starting"] * most
