"""All of it: broker, database, two workers of which one is killed, projector, rebuild, checks."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from demo.stage import PROGRAM
from tests.demo.rehearsing import digest_of, rehearse


@pytest.fixture
async def expected_digest() -> str:
    return digest_of(*await rehearse())


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own, which other sessions close to the database's system user.
    with tempfile.TemporaryDirectory(prefix="realname-test-") as folder:
        yield Path(folder)


@pytest.mark.timeout(600)
def test_a_killed_worker_and_a_rebuild_change_nothing(folder: Path, expected_digest: str) -> None:
    finished = subprocess.run(
        [PROGRAM, "demo", "--kill", "--rebuild"],
        env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    )
    told = finished.stdout + finished.stderr
    assert finished.returncode == 0, told
    assert "worker-1 was killed" in told
    assert "✓ 重建一致" in told
    assert f"digest  {expected_digest}  " in told
    # Nothing is left behind.
    assert list(folder.glob("realname-demo-*")) == []
    running = psutil.process_iter(["cmdline", "environ"])
    assert [one for one in running if str(folder) in str(one.info)] == []
