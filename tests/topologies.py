"""Several real servers that stand for one: a primary with a replica and sentinels, and a cluster; also one with TLS.

Each server is a process of its own with a guard, see tests.servers. Both topologies can be brought back to health after
a test has killed or paused some of them, so that one of each kind serves a whole run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis
import trustme

from tests.servers import HOST, Server, ServerError, free_port, program

HEALTHY_WITHIN = 30.0  # seconds; three or four on a quiet machine
POLL = 0.05
SERVICE = "main"
SLOTS = 16_384
REPLICATION = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def start_together(servers: Iterable[Server]) -> None:
    """Start all that do not run, at the same time."""
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda server: server.start(), [server for server in servers if not server.runs]))


def await_fact(what: str, fact: Callable[[], Any]) -> None:
    """Look until `fact` is true; a server that does not answer or refuses is not there yet."""
    for _ in range(int(HEALTHY_WITHIN / POLL)):
        with contextlib.suppress(redis.RedisError):
            if fact():
                return
        time.sleep(POLL)
    raise ServerError(f"not within {HEALTHY_WITHIN:.0f} s: {what}")


class Member(Server):
    """A server that can be paused and spoken to in single commands."""

    paused = False
    touched = False
    """It was killed or paused since the last `heal` of those it belongs to."""

    @property
    def runs(self) -> bool:
        return self._process is not None

    def ask(self, *words: object) -> Any:
        """The answer to one command, as the server gives it."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def facts(self, section: str) -> dict[str, Any]:
        with self.client() as client:
            return dict(client.info(section))

    def kill(self) -> None:
        self.touched = True
        super().kill()

    def pause(self) -> None:
        """SIGSTOP: it is there, and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = self.touched = True

    def resume(self) -> None:
        if self.paused and self.runs:
            os.kill(self.pid, signal.SIGCONT)
        self.paused = False


class Independent:
    """Three servers that know nothing of each other. options: as for a `Server`."""

    def __init__(self, kind: str, directory: Path, *options: str) -> None:
        self.servers = [Member(kind, directory / str(n), *options) for n in range(3)]

    @property
    def url(self) -> str:
        """All of them, as DULY_URL has them."""
        return " ".join(server.url for server in self.servers)

    @property
    def touched(self) -> bool:
        return any(server.touched for server in self.servers)

    def start(self) -> None:
        start_together(self.servers)

    def heal(self) -> None:
        """Every server is there."""
        for server in self.servers:
            server.resume()
            server.touched = False
        self.start()

    def flush(self) -> None:
        for server in self.servers:
            server.flush()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


class Pair:
    """A primary and its replica, and nobody who would make the replica primary."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.primary, self.replica = (Member(kind, directory / name, *REPLICATION) for name in ("a", "b"))
        self._touched = False

    @property
    def touched(self) -> bool:
        return self._touched or self.primary.touched or self.replica.touched

    @property
    def url(self) -> str:
        return self.primary.url

    def start(self) -> None:
        start_together((self.primary, self.replica))
        self.heal()

    def heal(self) -> None:
        """The one follows the other, and has all that it has."""
        for member in (self.primary, self.replica):
            member.resume()
            member.touched = False
            member.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        if self.primary.facts("replication")["role"] == "slave":
            self.primary.ask("REPLICAOF", "NO", "ONE")
        follow(self.replica, self.primary)
        self._touched = False

    def require_replicas(self) -> None:
        """Whoever is primary takes no write without a replica, from here on."""
        self._touched = True
        for member in (self.primary, self.replica):
            member.ask("CONFIG", "SET", "min-replicas-to-write", 1)

    def split(self) -> None:
        """From here on there are two primaries."""
        self._touched = True
        self.replica.ask("REPLICAOF", "NO", "ONE")
        await_fact("a primary alone", lambda: self.primary.facts("replication")["connected_slaves"] == 0)

    def join(self) -> None:
        """The old primary follows the new one, and forgets what it took meanwhile."""
        follow(self.primary, self.replica)

    def flush(self) -> None:
        self.primary.flush()

    def stop(self) -> None:
        for member in (self.primary, self.replica):
            member.stop()


def follow(one: Member, other: Member) -> None:
    """Make it the other's replica; returns when it has all that the other has."""
    one.ask("REPLICAOF", HOST, other.port)
    await_fact("a replica that follows", lambda: one.facts("replication")["master_link_status"] == "up")
    await_fact("a primary that knows", lambda: other.facts("replication")["slave0"]["state"] == "online")
    replicated(other, one)


class Sentinel(Member):
    """One sentinel over the primary at `port`."""

    def __init__(self, kind: str, directory: Path, watched: int) -> None:
        super().__init__(kind, directory)
        self.watched = watched

    def _command(self, port: int) -> list[str]:
        file = self.directory / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"bind {HOST}\nport {port}\ndir {self.directory}\n"
                f"sentinel monitor {SERVICE} {HOST} {self.watched} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
        return [program(self.kind), str(file), "--sentinel"]


class Replicated:
    """A primary and its replicas, and three sentinels that agree on which is which."""

    def __init__(self, kind: str, directory: Path, replicas: int = 1) -> None:
        self.kind, self.directory = kind, directory
        self.data = [Member(kind, directory / f"data{n}", *REPLICATION) for n in range(1 + replicas)]
        self.sentinels: list[Sentinel] = []

    @property
    def url(self) -> str:
        addresses = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{addresses}/{SERVICE}"

    @property
    def primary(self) -> Member:
        """The one that the sentinels name."""
        port = int(self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return next(member for member in self.data if member.port == port)

    @property
    def replicas(self) -> list[Member]:
        primary = self.primary
        return [member for member in self.data if member is not primary]

    @property
    def replica(self) -> Member:
        """The first of them."""
        return self.replicas[0]

    def start(self) -> None:
        start_together(self.data)
        for replica in self.data[1:]:
            replica.ask("REPLICAOF", HOST, self.data[0].port)
        self.sentinels = [Sentinel(self.kind, self.directory / f"sentinel{n}", self.data[0].port) for n in range(3)]
        start_together(self.sentinels)
        self.heal()

    def heal(self) -> None:
        """Everybody is there, and the sentinels would promote the replica."""
        members = [*self.data, *self.sentinels]
        for member in members:
            member.resume()
            member.touched = False
        start_together(members)
        await_fact("sentinels that see a primary, its replica, and each other", self._is_healthy)
        self._flushed = self.primary

    def _is_healthy(self) -> bool:
        views = [dict(_pairs(sentinel.ask("SENTINEL", "MASTER", SERVICE))) for sentinel in self.sentinels]
        facts, count = (b"flags", b"num-slaves", b"num-other-sentinels"), len(self.data) - 1
        if any(tuple(view[fact] for fact in facts) != (b"master", b"%d" % count, b"2") for view in views):
            return False
        if len({view[b"port"] for view in views}) > 1:
            return False
        replication = self.primary.facts("replication")
        known = [dict(_pairs(each)) for each in self.sentinels[0].ask("SENTINEL", "REPLICAS", SERVICE)]
        return (
            replication["role"] == "master"
            and replication["connected_slaves"] == count
            and all(replication[f"slave{n}"]["state"] == "online" for n in range(count))
            and all((each[b"flags"], each[b"master-link-status"]) == (b"slave", b"ok") for each in known)
        )

    def fail_over(self) -> Member:
        """Kill the primary, and return the one that is primary when the sentinels name another."""
        former = self.primary
        former.kill()
        await_fact("a new primary", lambda: self.primary is not former)
        return self.primary

    @property
    def touched(self) -> bool:
        return any(member.touched for member in (*self.data, *self.sentinels))

    def flush(self) -> None:
        self._flushed.flush()

    def stop(self) -> None:
        for member in (*self.sentinels, *self.data):
            member.stop()


def replicated(primary: Member, replica: Member) -> None:
    """Return when the replica has all that the primary has by now."""
    offset = primary.facts("replication")["master_repl_offset"]
    await_fact("a replica that follows", lambda: replica.facts("replication")["slave_repl_offset"] >= offset)


class Cluster:
    """Three masters with a replica each."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.nodes = [self._node(directory / f"node{n}") for n in range(6)]
        self._touched = False

    def _node(self, directory: Path) -> Member:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(free_port()))
        return Member(self.kind, directory, *options, *REPLICATION)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes[:3])

    def start(self) -> None:
        start_together(self.nodes)
        ids = [node.ask("CLUSTER", "MYID") for node in self.nodes]
        for n, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            bus = node.options[node.options.index("--cluster-port") + 1]
            if n:
                self.nodes[0].ask("CLUSTER", "MEET", HOST, node.port, bus)
        bounds = [SLOTS * n // 3 for n in range(4)]
        for n in range(3):
            self.nodes[n].ask("CLUSTER", "ADDSLOTSRANGE", bounds[n], bounds[n + 1] - 1)
        for n in range(3):
            replica = self.nodes[n + 3]
            await_fact("nodes that know each other", lambda id=ids[n], replica=replica: knows(replica, id))
            replica.ask("CLUSTER", "REPLICATE", ids[n])
        self.heal()

    def heal(self) -> None:
        """Every node is there, serves or follows, and all agree."""
        for node in self.nodes:
            node.resume()
            node.touched = self._touched = False
        start_together(self.nodes)
        await_fact("a cluster of three masters with a replica each", self._is_healthy)
        self._flushed = self.masters

    def _is_healthy(self) -> bool:
        maps = set()
        for node in self.nodes:
            facts = node.ask("CLUSTER", "INFO")
            if b"cluster_state:ok" not in facts or b"cluster_slots_ok:16384" not in facts:
                return False
            entries = node.ask("CLUSTER", "SLOTS")
            maps.add(tuple(sorted((start, end, master[1], len(more)) for start, end, master, *more in entries)))
            replication = node.facts("replication")
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
        return len(maps) == 1 and all(replicas == 1 for *_, replicas in next(iter(maps)))

    @property
    def _asked(self) -> Member:
        return next(node for node in self.nodes if node.runs and not node.paused)

    def master_of(self, key: str) -> Member:
        """The node that serves a key, as a node that runs sees it."""
        return self._serving(self._asked.ask("CLUSTER", "KEYSLOT", key))

    def _serving(self, slot: int) -> Member:
        for start, end, master, *_ in self._asked.ask("CLUSTER", "SLOTS"):
            if start <= slot <= end:
                return next(node for node in self.nodes if node.port == master[1])
        raise ServerError(f"nobody serves slot {slot}")

    def other_master(self, key: str) -> Member:
        """A master that does not serve a key."""
        return next(node for node in self.masters if node is not self.master_of(key))

    def migrate_at_once(self, key: str, target: Member) -> None:
        """Have the servers move the slot of a key in one step, as Valkey 9 can; returns when it is the other's."""
        self._touched = True
        source, slot = self.master_of(key), self.nodes[0].ask("CLUSTER", "KEYSLOT", key)
        source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.ask("CLUSTER", "MYID"))
        await_fact("a slot that has moved", lambda: self.master_of(key) is target)

    @contextlib.contextmanager
    def migrating(self, key: str, target: Member) -> Iterator[Callable[[], None]]:
        """The slot of a key is on its way from its node to another; gives what moves the keys that are there.

        At the end the slot is the other's.
        """
        source, slot = self.master_of(key), self.nodes[0].ask("CLUSTER", "KEYSLOT", key)
        ids = {node: node.ask("CLUSTER", "MYID") for node in (source, target)}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        self._touched = True

        def move() -> None:
            while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
                source.ask("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)

        try:
            yield move
            move()
        finally:
            for node in (target, *(node for node in self.masters if node is not target)):
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])

    def fail_over(self) -> Member:
        """Kill a master, and return the one that serves its slots when there is another."""
        former = random.choice(self.masters)
        first = next(start for start, _, master, *_ in former.ask("CLUSTER", "SLOTS") if master[1] == former.port)
        former.kill()
        await_fact("a new master", lambda: self._serving(first) is not former)
        return self._serving(first)

    @property
    def masters(self) -> list[Member]:
        ports = {entry[2][1] for entry in self._asked.ask("CLUSTER", "SLOTS")}
        return [node for node in self.nodes if node.port in ports]

    @property
    def touched(self) -> bool:
        return self._touched or any(node.touched for node in self.nodes)

    def flush(self) -> None:
        for master in self._flushed:
            master.flush()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class Encrypted(Member):
    """A server that speaks TLS only, with a certificate that `authority` (a file) vouches for."""

    def __init__(self, kind: str, directory: Path, *options: str) -> None:
        directory.mkdir(parents=True)
        authority = trustme.CA()
        issued = authority.issue_cert(HOST, "localhost")
        self.authority, key, certificate = (directory / name for name in ("ca.pem", "key.pem", "cert.pem"))
        authority.cert_pem.write_to_path(str(self.authority))
        issued.private_key_pem.write_to_path(str(key))
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        files = (
            "--tls-cert-file",
            str(certificate),
            "--tls-key-file",
            str(key),
            "--tls-ca-cert-file",
            str(self.authority),
        )
        super().__init__(kind, directory, *files, "--tls-auth-clients", "no", *options)

    @property
    def url(self) -> str:
        return f"rediss://{HOST}:{self.port}/0?ssl_ca_certs={self.authority}"

    def _command(self, port: int) -> list[str]:
        return [*super()._command(port), "--tls-port", str(port), "--port", "0"]


def knows(node: Member, id: bytes) -> bool:
    """Whether a node of a cluster has heard of another, and shaken hands with it."""
    lines = node.ask("CLUSTER", "NODES").splitlines()
    return any(line.startswith(id) and b"handshake" not in line for line in lines)


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
