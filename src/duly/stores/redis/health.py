"""What `duly doctor` asks a Redis or Valkey server: its version and role, what it may lose, what it does when full.

Managed servers often forbid CONFIG. What INFO tells as well is taken from there; the rest is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from duly.errors import StoreError, StoreRefused, StoreUnavailable, StoreUncertain
from duly.stores.capabilities import Finding
from duly.stores.redis.cluster import ClusterLink
from duly.stores.redis.link import Link
from duly.stores.redis.sentinel import Sentinels

OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "min-replicas-to-write")
NEARLY_FULL = 0.9

Facts = Mapping[str, str]


async def examine(link: Link | ClusterLink) -> list[Finding]:
    """All findings about a server, about the primary and its sentinels, or about every master of a cluster."""
    if isinstance(link, ClusterLink):
        return await _examine_cluster(link)
    findings = await _examine_server(link)
    if isinstance(link.server, Sentinels):
        findings += await link.server.examine()
    return findings


async def _examine_server(link: Link) -> list[Finding]:
    try:
        info = _facts(await link.command(b"INFO"))
    except StoreRefused as error:
        if "NOPERM" not in str(error):
            raise
        return [Finding("warning", "INFO is kept from us: nothing is known of the server", "allow INFO to this user")]
    return judge(info, await _settings(link))


async def _examine_cluster(cluster: ClusterLink) -> list[Finding]:
    masters = await cluster.masters()
    facts: Facts = {}
    findings: list[Finding] = []
    for link in masters:
        try:
            facts = facts or _facts(await link.command(b"CLUSTER", b"INFO"))
            found = await _examine_server(link)
        except (StoreUnavailable, StoreUncertain):
            found = [Finding("error", "it does not answer", "start it, or see why its replica is not promoted")]
        name = "{}:{}".format(*link.address)
        findings += [Finding(finding.level, f"{name}: {finding.what}", finding.advice) for finding in found]
    return [judge_cluster(facts, len(masters)), *findings]


def judge_cluster(facts: Facts, masters: int) -> Finding:
    """Whether every slot is served, pure: `facts` as CLUSTER INFO has them."""
    said = f"a cluster of {masters} masters and {facts.get('cluster_known_nodes', '?')} nodes"
    if facts.get("cluster_state") != "ok":
        served = facts.get("cluster_slots_ok", "?")
        return Finding(
            "error", f"{said} is down: {served} of 16384 slots are served", "see CLUSTER NODES for who fails"
        )
    return Finding("ok", said)


def _facts(text: bytes) -> Facts:
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}


async def _settings(link: Link) -> Facts | None:
    """The server's configuration, as far as we ask; None if it is kept from us."""
    found: dict[str, str] = {}
    try:
        for name in SETTINGS:  # one by one: several patterns in one call are newer than our oldest server
            reply = await link.command(b"CONFIG", b"GET", name)
            found.update({reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)})
    except (StoreUnavailable, StoreUncertain):
        raise
    except StoreError:  # forbidden, renamed away, or unknown to what speaks this protocol
        return None
    return found


def judge(info: Facts, settings: Facts | None) -> list[Finding]:
    """What an operator should know of these facts, pure: `info` as INFO has it, settings None if they are forbidden."""
    findings = [_version(info), _role(info), _memory(info, settings), _persistence(info, settings)]
    replicas = int(info.get("connected_slaves", 0))
    if replicas:
        findings.append(_replication(replicas, settings))
    return findings


def _version(info: Facts) -> Finding:
    kind = "valkey" if "valkey_version" in info else "redis"
    text = info.get(f"{kind}_version", "0")
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    oldest = OLDEST[kind]
    if version < oldest:
        least = ".".join(map(str, oldest))
        return Finding("error", f"{kind.capitalize()} {text} is too old", f"upgrade it to {least} or newer")
    return Finding("ok", f"{kind.capitalize()} {text}")


def _role(info: Facts) -> Finding:
    if info.get("role", "master") == "master":
        return Finding("ok", "the server is a primary")
    return Finding("error", "the server is a replica, which takes no writes", "point the URL to its primary")


def _memory(info: Facts, settings: Facts | None) -> Finding:
    facts = {**(settings or {}), **{name.replace("_", "-"): info[name] for name in MEMORY if name in info}}
    policy, most, used = facts.get("maxmemory-policy"), int(facts.get("maxmemory", 0)), int(facts.get("used-memory", 0))
    if policy is None:
        return Finding("warning", "maxmemory-policy is kept from us", "make sure that it is noeviction")
    if policy != "noeviction":
        level: tuple[str, str] = (
            f"maxmemory-policy is {policy}: when memory is full the server deletes jobs and schedules",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
        return Finding("error", *level) if most else Finding("warning", *level)
    if most and used > NEARLY_FULL * most:
        return Finding(
            "warning", f"{used / most:.0%} of maxmemory is used; when it is full, pushes are refused", "raise maxmemory"
        )
    return Finding("ok", "maxmemory-policy is noeviction" + ("" if most else ", and maxmemory is not limited"))


MEMORY = ("maxmemory", "maxmemory_policy", "used_memory")
"""What INFO says of memory too."""


def _persistence(info: Facts, settings: Facts | None) -> Finding:
    if info.get("aof_enabled") == "1":
        if info.get("aof_last_write_status", "ok") != "ok":
            return Finding("error", "the append-only file cannot be written", "free the server's disk; see its log")
        return _append_only((settings or {}).get("appendfsync"))
    advice = "CONFIG SET appendonly yes, and in its configuration file"
    if settings is None:
        return Finding(
            "warning", "the append-only file is off: a crash loses what came after the last snapshot", advice
        )
    save = settings.get("save", "")
    if not save:
        return Finding("warning", "nothing is written to disk: a restart of the server loses every job", advice)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("error", "the last snapshot failed", "free the server's disk; see its log")
    return Finding("warning", f"snapshots only (save {save}): a crash loses what came after the last one", advice)


def _append_only(fsync: str | None) -> Finding:
    losses = {
        "always": "every write is on disk before it is answered",
        "everysec": "a power failure may lose the last second",
    }
    if fsync in losses:
        return Finding("ok", f"appendonly is on, appendfsync {fsync}: {losses[fsync]}")
    if fsync is None:
        return Finding("ok", "appendonly is on; appendfsync is kept from us")
    return Finding(
        "warning",
        f"appendonly is on, but appendfsync is {fsync}: a power failure may lose many seconds",
        "CONFIG SET appendfsync everysec",
    )


def _replication(replicas: int, settings: Facts | None) -> Finding:
    least = (settings or {}).get("min-replicas-to-write")
    if least is None:
        return Finding("ok", f"{replicas} replica(s); min-replicas-to-write is kept from us")
    if least == "0":
        return Finding(
            "warning",
            f"{replicas} replica(s), and min-replicas-to-write is 0: a primary that is cut off takes jobs which a "
            "failover then forgets",
            "CONFIG SET min-replicas-to-write 1",
        )
    return Finding("ok", f"{replicas} replica(s), {least} of them needed for a write")
