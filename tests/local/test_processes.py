"""Processes are known by their pid and their arguments."""

import os
import shutil

import psutil

from local import processes


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
