"""How evenly a ring spreads names over nodes, what moves when a node joins or leaves, and what a lookup costs.

    python benchmarks/ring.py [--nodes 1000] [--names 1000000] [--json] [--plot docs/ring.svg]      (pip install 'duly[bench]')

Beside `core.ring.Ring`, whose arithmetic is repeated here in numpy to do a thousand million of it within a minute (each
name in a thousand is asked of the Ring itself, too), stands a ring of 200 points for each node, as consistent hashing is
usually built.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from duly.core.ring import Ring, hash64

Hashes = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.int64]
POINTS = 200
"""Of each node on the ring that is compared with."""
LOOKUPS = 2_000


def mix64(number: Hashes) -> Hashes:
    """As `core.ring.mix64`, of many numbers."""
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


def hashes(prefix: str, count: int) -> Hashes:
    return np.array([hash64(f"{prefix}{n}") for n in range(count)], dtype=np.uint64)


def rendezvous(nodes: Hashes, names: Hashes) -> tuple[Owners, Owners]:
    """The owner of each name, and who is next."""
    best, second = np.zeros(len(names), np.uint64), np.zeros(len(names), np.uint64)
    owner, following = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    for index, node in enumerate(nodes):
        height = mix64(names ^ node)
        wins = height > best
        follows = ~wins & (height > second)
        following[wins], second[wins] = owner[wins], best[wins]
        owner[wins], best[wins] = index, height[wins]
        following[follows], second[follows] = index, height[follows]
    return owner, following


def points(nodes: Hashes) -> tuple[Hashes, Owners]:
    """The sorted points of a ring, and whose each of them is."""
    each = mix64(np.repeat(nodes, POINTS) ^ np.tile(mix64(np.arange(POINTS, dtype=np.uint64)), len(nodes)))
    order = np.argsort(each)
    return each[order], np.repeat(np.arange(len(nodes)), POINTS)[order]


def on_points(nodes: Hashes, names: Hashes) -> Owners:
    """The owner of each name on a ring of points: whose the next point is."""
    at, whose = points(nodes)
    return whose[np.searchsorted(at, mix64(names)) % len(at)]


@dataclass
class Figures:
    """Shares are relative to a fair one; times are in microseconds."""

    how: str
    least: float
    most: float
    deviation: float
    moved_by_join: float
    moved_by_leave: float
    moved_elsewhere: int
    lookup: float


def figures(how: str, before: Owners, joined: Owners, left: Owners, nodes: int, lookup: float) -> Figures:
    """joined: with one more than `before`, whose index is the last; left: without the first."""
    shares = np.bincount(before, minlength=nodes) * nodes / len(before)
    by_join, by_leave = before != joined, before != left
    strays = int(np.sum(by_join & (joined != nodes)) + np.sum(by_leave & (before != 0)))
    fair = nodes / len(before)
    return Figures(how, float(shares.min()), float(shares.max()), float(shares.std()),
                   float(by_join.sum() * fair), float(by_leave.sum() * fair), strays, lookup)  # fmt: skip


def lookup_time(ring: Ring) -> float:
    begun = time.perf_counter()
    for n in range(LOOKUPS):
        ring.owner(f"name {n}")
    return (time.perf_counter() - begun) / LOOKUPS * 1e6


def measure(nodes: int, names: int) -> tuple[list[Figures], dict[str, Owners]]:
    keys, candidates = hashes("name ", names), hashes("node ", nodes + 1)
    owner, following = rendezvous(candidates[:-1], keys)
    ring = Ring([f"node {n}" for n in range(nodes)])
    for n in range(0, names, max(1, names // 1000)):
        assert ring.owner(f"name {n}") == f"node {owner[n]}", "numpy and the product do not agree"
    newcomer = mix64(keys ^ candidates[-1])
    joined = np.where(newcomer > mix64(keys ^ candidates[:-1][owner]), nodes, owner)
    left = np.where(owner == 0, following, owner)
    on_ring = on_points(candidates[:-1], keys)
    gone = on_points(candidates[1:-1], keys) + 1
    at, _ = points(candidates[:-1])
    begun = time.perf_counter()
    for n in range(LOOKUPS):
        np.searchsorted(at, np.uint64(hash64(f"name {n}")))
    return [
        figures("rendezvous (core.ring.Ring)", owner, joined, left, nodes, lookup_time(ring)),
        figures(f"a ring of {POINTS} points each", on_ring, on_points(candidates, keys), gone, nodes,
                (time.perf_counter() - begun) / LOOKUPS * 1e6),
    ], {"rendezvous": owner, f"{POINTS} points": on_ring}  # fmt: skip


def plot(owners: dict[str, Owners], nodes: int, path: str) -> None:
    """How many nodes have which part of a fair share."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "duly"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for how, owner in owners.items():
        shares = np.bincount(owner, minlength=nodes) * nodes / len(owner)
        axes.hist(shares, bins=np.linspace(0.6, 1.4, 81).tolist(), alpha=0.6, label=how)
    axes.set_xlabel("names of a node, relative to a fair share")
    axes.set_ylabel("nodes")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args()
    found, owners = measure(args.nodes, args.names)
    if args.plot:
        plot(owners, args.nodes, args.plot)
    if args.json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=1) + "\n")
        return 0
    sys.stdout.write(f"{args.nodes:,} nodes, {args.names:,} names; shares relative to a fair one\n")
    for each in found:
        sys.stdout.write(
            f"{each.how:<28} least {each.least:.3f}, most {each.most:.3f}, deviation {each.deviation:.4f}; a join moves "
            f"{each.moved_by_join:.3f}, a leave {each.moved_by_leave:.3f}, elsewhere {each.moved_elsewhere}; "
            f"a lookup {each.lookup:.1f} us\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
