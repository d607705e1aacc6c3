"""The jars of the embedded broker, pinned.

A lock names every artifact with its SHA-256: what is not exactly that is never put on a class
path. Jars are kept by their hash in the user's cache, outside any deployment's data, so that
deployments and processes share them.
"""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import fasteners
import platformdirs
import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext
from rich.console import Console
from rich.progress import Progress

from schemas import limits

KAFKA_LOCK: Final = Path(__file__).with_name("kafka.lock")
KAFKA_COORDINATES: Final = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    # The binding of the broker's logging; Kafka leaves the choice to the distribution.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)


class ArtifactError(RuntimeError):
    """A jar could not be had, or is not the one the lock names."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One jar: `group:artifact:version` and the SHA-256 of the file, in hex."""

    coordinate: str
    sha256: str

    def path(self, cache: Path) -> Path:
        """Where the verified file lives: the hash is in the path, so existing means verified."""
        _, artifact, version = self.coordinate.split(":")
        return cache / "jars" / self.sha256 / f"{artifact}-{version}.jar"


def read_lock(lock: Path) -> tuple[Artifact, ...]:
    """The artifacts that a lock file names, in the order of the class path."""
    artifacts = []
    for line in lock.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            sha256, coordinate = line.split()
            artifacts.append(Artifact(coordinate, sha256))
    return tuple(artifacts)


def jars(lock: Path = KAFKA_LOCK, cache: Path | None = None) -> tuple[Path, ...]:
    """The class path that a lock names; what the cache lacks is downloaded, with progress on
    stderr. Safe to call from several processes at once.

    Raises ArtifactError when a jar cannot be downloaded or its hash differs from the lock.
    """
    cache = cache or platformdirs.user_cache_path("realname")
    artifacts = read_lock(lock)
    if any(not artifact.path(cache).exists() for artifact in artifacts):
        cache.mkdir(parents=True, exist_ok=True)
        with fasteners.InterProcessLock(cache / ".lock"):
            # Asked again under the lock: another process may have just fetched them.
            missing = [each for each in artifacts if not each.path(cache).exists()]
            if missing:
                _fetch(missing, cache)
    return tuple(artifact.path(cache) for artifact in artifacts)


def write_lock(lock: Path, coordinates: Iterable[str]) -> None:
    """Resolve `coordinates` with all they need at run time and write the lock."""
    hashes: dict[str, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        context = _context(Path(scratch))
        # One root at a time, the first root's versions win: resolved together, the second root's
        # managed versions would replace the first's (log4j's name an older kafka-clients).
        for coordinate in coordinates:
            inputs, dependencies = context.resolver.resolve([context.create_dependency(coordinate)])
            for dependency in (*inputs, *dependencies):
                artifact = dependency.artifact
                name = f"{artifact.groupId}:{artifact.artifactId}"
                if name not in hashes:
                    sha256 = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
                    hashes[name] = (artifact.version, sha256)
    lines = [f"{sha256}  {name}:{version}\n" for name, (version, sha256) in hashes.items()]
    lock.write_text("# Written by `make lock`.\n" + "".join(lines), "utf-8")


def _context(repository: Path) -> MavenContext:
    # A mirror configured for jgo goes first: the hashes make it safe to use any.
    remotes: Mapping[str, str] = GlobalSettings.load().repositories
    return MavenContext(
        repo_cache=repository,
        local_repos=[],
        remote_repos={**remotes, "central": MAVEN_CENTRAL_URL},
        timeout=limits.DOWNLOAD_READ_MS_MAX // limits.SECOND_MS,
    )


def _fetch(missing: list[Artifact], cache: Path) -> None:
    # The scratch directory is on the cache's file system, so that the last step is a rename.
    with (
        tempfile.TemporaryDirectory(dir=cache) as scratch,
        Progress(console=Console(stderr=True)) as progress,
        ThreadPoolExecutor(limits.DOWNLOADS_AT_ONCE_MAX) as pool,
    ):
        task = progress.add_task(f"下载 Downloading {len(missing)} jars", total=len(missing))
        for _ in pool.map(partial(_fetch_one, cache=cache, scratch=Path(scratch)), missing):
            progress.advance(task)


def _fetch_one(artifact: Artifact, cache: Path, scratch: Path) -> None:
    for attempt in range(1, limits.DOWNLOAD_TRIES_MAX + 1):
        # A repository of its own for each try: nothing of a broken download is used again.
        repository = scratch / artifact.sha256 / str(attempt)
        dependency = _context(repository).create_dependency(artifact.coordinate)
        try:
            downloaded: Path = dependency.artifact.resolve()
        except (requests.RequestException, RuntimeError, OSError) as error:
            if attempt == limits.DOWNLOAD_TRIES_MAX:
                raise ArtifactError(f"cannot download {artifact.coordinate}: {error}") from error
            continue
        sha256 = hashlib.sha256(downloaded.read_bytes()).hexdigest()
        if sha256 != artifact.sha256:
            raise ArtifactError(
                f"{artifact.coordinate} is not what the lock names: "
                f"sha256 {sha256}, locked {artifact.sha256}"
            )
        target = artifact.path(cache)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(downloaded, target)
        return


if __name__ == "__main__":
    write_lock(KAFKA_LOCK, KAFKA_COORDINATES)
    sys.stdout.write(f"{len(read_lock(KAFKA_LOCK))} artifacts locked\n")
