"""Who of several owns a key: rendezvous hashing (Thaler and Ravishankar, 1998). Pure.

Each candidate has a weight for each key, a hash of both; the heaviest owns it. Everybody who knows the same candidates
agrees, without talking; a candidate more takes over only what it owns itself, one less leaves only what it owned.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from itertools import repeat

_MASK = (1 << 64) - 1
_UNIT = 2.0**-64


def hash64(text: str) -> int:
    """64 bits of BLAKE2b: the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


def owner(key: str, candidates: Iterable[str]) -> str:
    """The candidate that owns the key, in whichever order they come. Raises ValueError if there is none."""
    return max(candidates, key=lambda name: (hash64(f"{name}\0{key}"), name))


def mix64(number: int) -> int:
    """The 64 bits stirred: each bit of the answer depends on all of them (the finalizer of splitmix64; Steele, Lea and Flood,
    2014)."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


class Ring:
    """Candidates that own keys in proportion to their weights. For many keys: the candidates are hashed once, and a lookup is
    a few arithmetic operations for each of them.

    Weights are positive; one without a weight given has 1. With unequal ones the heaviest of -weight / ln(hash) owns a key,
    by which a change of one weight moves only keys from or to that candidate (Schindelhauer and Schomaker, 2005).
    """

    def __init__(self, candidates: Mapping[str, float] | Iterable[str]) -> None:
        weights = dict(candidates if isinstance(candidates, Mapping) else zip(candidates, repeat(1.0), strict=False))
        for name, weight in weights.items():
            if not 0 < weight < math.inf:
                raise ValueError(f"the weight of {name!r} is {weight}: give a positive number")
        self.weights: Mapping[str, float] = weights
        self._hashes = [(hash64(name), name) for name in sorted(weights)]
        self._equal = len(set(weights.values())) <= 1

    def owner(self, key: str) -> str:
        """The candidate that owns the key. Raises ValueError if there is none."""
        if not self._hashes:
            raise ValueError(f"nobody is there to own {key!r}")
        return max(self._heights(hash64(key)))[1]

    def ranked(self, key: str) -> list[str]:
        """All candidates: the owner, then who owns the key if those before are gone."""
        return [name for _, name in sorted(self._heights(hash64(key)), reverse=True)]

    def share(self, name: str) -> float:
        """The part of all keys that a candidate can expect to own, from 0 to 1."""
        return self.weights[name] / math.fsum(self.weights.values())

    def _heights(self, key: int) -> Iterable[tuple[float, str]]:
        drawn = ((mix64(key ^ hashed), name) for hashed, name in self._hashes)
        if self._equal:
            return drawn
        return ((-self.weights[name] / math.log((number + 0.5) * _UNIT), name) for number, name in drawn)
