"""Who goes into the background gets what others leave of the processors."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deployment.process import BACKGROUND_NICE, into_background

SLEEP = [sys.executable, "-c", "input()"]


@pytest.mark.parametrize("leads", [True, False], ids=["of a session", "in one"])
def test_a_process_goes_into_the_background(leads: bool) -> None:
    mine = Path("/proc/self/autogroup")
    before = mine.read_text("ascii") if mine.exists() else None
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE, start_new_session=leads) as process:
        into_background(process.pid)
        assert psutil.Process(process.pid).nice() == BACKGROUND_NICE
        if sys.platform == "linux":
            assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        group = Path(f"/proc/{process.pid}/autogroup")
        if leads and group.exists():
            assert group.read_text("ascii").endswith(f" nice {BACKGROUND_NICE}\n")
    assert os.getpriority(os.PRIO_PROCESS, 0) < BACKGROUND_NICE
    assert (mine.read_text("ascii") if mine.exists() else None) == before
