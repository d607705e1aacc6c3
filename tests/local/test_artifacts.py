"""The lock of the broker's jars: what is not exactly that is never put on a class path."""

import hashlib
import multiprocessing
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.artifacts import KAFKA_COORDINATES, KAFKA_LOCK, ArtifactError, jars, read_lock

CONTENT = b"a jar"
REQUESTED = "/org/example/thing/1.0/thing-1.0.jar"


class Mirror(ThreadingHTTPServer):
    """A Maven repository on loopback that holds one jar and counts who asks for it."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        self.gets = 0
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(root))

            def do_GET(self) -> None:
                server.gets += self.path == REQUESTED
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    root = tmp_path / "repository"
    jar = root / REQUESTED.lstrip("/")
    jar.parent.mkdir(parents=True)
    jar.write_bytes(CONTENT)
    with Mirror(root) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = tmp_path / "jgo.conf"
        config.write_text(f"[repositories]\nmirror = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
        yield server
        server.shutdown()


def write(lock: Path, content: bytes) -> Path:
    lock.write_text(f"# one\n{hashlib.sha256(content).hexdigest()}  org.example:thing:1.0\n")
    return lock


def test_processes_at_once_download_a_jar_once(tmp_path: Path, mirror: Mirror) -> None:
    lock = write(tmp_path / "lock", CONTENT)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        [first, second] = pool.starmap(jars, [(lock, tmp_path / "cache")] * 2)
    assert first == second
    assert [path.read_bytes() for path in first] == [CONTENT]
    assert mirror.gets == 1


def test_another_jar_than_the_locked_one_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    lock = write(tmp_path / "lock", b"the jar that was meant")
    cache = tmp_path / "cache"
    with pytest.raises(ArtifactError, match=r"thing:1\.0 is not what the lock names"):
        jars(lock, cache)
    assert mirror.gets == 1
    assert not list(cache.rglob("*.jar"))


def test_the_lock_has_what_it_is_made_of() -> None:
    locked = [artifact.coordinate for artifact in read_lock(KAFKA_LOCK)]
    assert set(KAFKA_COORDINATES) <= set(locked)
    names = [coordinate.rpartition(":")[0] for coordinate in locked]
    assert len(set(names)) == len(names)
    _, _, version = KAFKA_COORDINATES[0].split(":")
    ours = [each for each in locked if each.startswith("org.apache.kafka:")]
    assert {each.rpartition(":")[2] for each in ours} == {version}
