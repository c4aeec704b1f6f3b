"""Signs and encrypts what is kept in a store, with keys that the store does not have: who can write to the store, but has no
key, can neither make jobs nor change them, nor, if they are encrypted, read them.

    byte 0       version (1), as of an envelope
    byte 1       flags: 1 signed, 2 encrypted, 3 both
    if signed    one byte length and the key's id, one byte length and the signature (HMAC-SHA256)
    if encrypted one byte length and the key's id, one byte length and the nonce
    then         what was sealed: as it is, or by AES-256-GCM

Both are made over where the bytes belong (what they are, namespace, queue, id) and over the header, too: what was sealed for
one job is refused as another one's, and so is what lost a flag.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from duly.core.codec import VERSION, sealing_of
from duly.errors import ConfigurationError

SIGNED, ENCRYPTED = 1, 2
LEAST_SECRET = 32
NONCE_BYTES = 12
Secret = str | bytes


class Refused(Exception):
    """These bytes were not sealed by anybody known here; the text says why."""


class Keys:
    """Secrets by the ids of their keys. Sealed is with the `current` one, accepted is what was sealed with any of them.

    signing: what is kept is signed. encryption: it is encrypted (needs the extra `encryption`). Secrets are texts or bytes,
    32 or more of chance: `python -c "import secrets; print(secrets.token_urlsafe(32))"`. current: the id, where there are
    several; one of each mapping. require: refuse what is not sealed; False while not all processes have their keys yet.

    Raises ConfigurationError, which names keys and never shows secrets.
    """

    __slots__ = ("_ciphers", "_current", "_flags", "_require", "_signers")

    def __init__(self, signing: Mapping[str, Secret] | None = None, encryption: Mapping[str, Secret] | None = None, *,
                 current: str | None = None, require: bool = True) -> None:  # fmt: skip
        if not signing and not encryption:
            raise ConfigurationError("Keys(): give signing={id: secret}, encryption={id: secret}, or both")
        self._signers = _derived("signing", signing)
        self._ciphers = {id: _cipher(key) for id, key in _derived("encryption", encryption).items()}
        self._require = require
        self._current = _current_of(current, self._signers), _current_of(current, self._ciphers)
        self._flags = (SIGNED if self._signers else 0) | (ENCRYPTED if self._ciphers else 0)

    def __repr__(self) -> str:
        parts = [
            f"{name}={[id.decode() for id in keys]}"
            for name, keys in (("signing", self._signers), ("encryption", self._ciphers))
            if keys
        ]
        return f"<Keys {' '.join(parts)}{'' if self._require else ' require=False'}>"

    def seal(self, data: bytes, context: bytes) -> bytes:
        """What is kept in the place of `data`. context: where it belongs, see `context_of`."""
        head, (signer, cipher) = bytes((VERSION, self._flags)), self._current
        if self._ciphers:
            nonce, own = os.urandom(NONCE_BYTES), _part(cipher)
            data = own + _part(nonce) + self._ciphers[cipher].encrypt(nonce, data, head + own + context)
        if self._signers:
            own = _part(signer)
            data = own + _part(_signature(self._signers[signer], head + own + context, data)) + data
        return head + data

    def open(self, data: bytes, context: bytes) -> bytes:
        """What was sealed. Raises Refused."""
        if not is_sealed(data):
            if self._require:
                raise Refused("it is not signed" if self._signers else "it is not encrypted")
            return data
        head, flags, rest = data[:2], data[1], data[2:]
        if self._require and (missing := self._flags & ~flags):
            raise Refused("it is not signed" if missing & SIGNED else "it is not encrypted")
        if flags & SIGNED:
            rest = self._verified(head, context, rest, is_encrypted=bool(flags & ENCRYPTED))
        return self._decrypted(head, context, rest) if flags & ENCRYPTED else rest

    def is_current_kind(self, data: bytes) -> bool:
        """Whether it is signed and encrypted as `seal` would, with whichever key."""
        return is_sealed(data) and data[1] == self._flags

    def _verified(self, head: bytes, context: bytes, rest: bytes, *, is_encrypted: bool) -> bytes:
        id, rest = _take(rest)
        signature, rest = _take(rest)
        if not self._signers and is_encrypted:
            return rest  # a reader without signing keys; what is encrypted is authentic by itself
        key = self._signers.get(id)
        if key is None:
            raise Refused(f"it is signed with key {_shown(id)}, which this process does not have")
        if not hmac.compare_digest(signature, _signature(key, head + _part(id) + context, rest)):
            raise Refused(f"its signature (key {_shown(id)}) does not fit: it was changed, or made for something else")
        return rest

    def _decrypted(self, head: bytes, context: bytes, rest: bytes) -> bytes:
        id, rest = _take(rest)
        nonce, rest = _take(rest)
        cipher = self._ciphers.get(id)
        if cipher is None:
            raise Refused(f"it is encrypted with key {_shown(id)}, which this process does not have")
        try:
            if len(nonce) != NONCE_BYTES:
                raise ValueError("damaged")
            plain: bytes = cipher.decrypt(nonce, rest, head + _part(id) + context)
        except Exception:  # the library has a class of its own for each thing that may be wrong with it
            raise Refused(
                f"it cannot be decrypted (key {_shown(id)}): it was changed, or made for something else"
            ) from None
        return plain


def keys_of_environment(environment: Mapping[str, str] | None = None) -> Keys | None:
    """Those of DULY_SIGNING_KEYS and DULY_ENCRYPTION_KEYS (`id=secret`, with commas between), DULY_CURRENT_KEY and
    DULY_REQUIRE_KEYS (yes or no); None if there are none. Raises ConfigurationError."""
    environment = os.environ if environment is None else environment
    signing, encryption = (_pairs(name, environment) for name in ("DULY_SIGNING_KEYS", "DULY_ENCRYPTION_KEYS"))
    if not signing and not encryption:
        return None
    require = environment.get("DULY_REQUIRE_KEYS", "yes").lower()
    if require not in ("yes", "no"):
        raise ConfigurationError(f"DULY_REQUIRE_KEYS={require!r}: give yes or no")
    return Keys(signing, encryption, current=environment.get("DULY_CURRENT_KEY") or None, require=require == "yes")


def context_of(kind: str, namespace: str, queue: str, id: str) -> bytes:
    """Where sealed bytes belong; kind: `job`, `result` or `schedule`."""
    return msgspec.msgpack.encode((kind, namespace, queue, id))


def is_sealed(data: bytes) -> bool:
    """Whether these bytes say that they are, and hold more than that."""
    return len(data) > 2 and sealing_of(data) is not None


def _pairs(name: str, environment: Mapping[str, str]) -> dict[str, Secret]:
    found: dict[str, Secret] = {}
    for pair in filter(None, re.split(r"[,\s]+", environment.get(name, ""))):
        id, equals, secret = pair.partition("=")
        if not equals or len(secret) < LEAST_SECRET or not re.fullmatch(r"[!-~]{1,50}", id):
            raise ConfigurationError(  # what stands before the = may be the secret: nothing of it is shown
                f"{name}: give id=secret, several with commas between; an id has at most 50 characters, a secret "
                f"{LEAST_SECRET} or more"
            )
        found[id] = secret
    return found


def _derived(kind: str, secrets: Mapping[str, Secret] | None) -> dict[bytes, bytes]:
    """A key of its own for each use of a secret, by the ids as they are written."""
    if not isinstance(secrets or {}, Mapping):
        raise ConfigurationError(f"Keys({kind}=…): give secrets by the ids of their keys, such as {{'2026-11': …}}")
    found = {}
    for id, secret in (secrets or {}).items():
        if not isinstance(id, str) or not re.fullmatch(r"[!-~]{1,50}", id):
            raise ConfigurationError(f"Keys({kind}=…): give each key an id of 1 to 50 ASCII characters without spaces")
        if not isinstance(secret, str | bytes) or len(secret) < LEAST_SECRET:
            given = f"{len(secret)} of them" if isinstance(secret, str | bytes) else type(secret).__name__
            raise ConfigurationError(
                f"the secret of {kind} key {id!r} has to be {LEAST_SECRET} characters or bytes of chance, or more; it is {given}"
            )
        raw = secret.encode() if isinstance(secret, str) else secret
        found[id.encode()] = hmac.digest(raw, f"duly {kind}".encode(), "sha256")
    return found


def _current_of(current: str | None, keys: Mapping[bytes, Any]) -> bytes:
    """The id of the key to seal with; empty if there are none."""
    if current is None and len(keys) > 1:
        raise ConfigurationError(f"Keys(): say which is current=, of {', '.join(map(_shown, keys))}")
    if current is not None and keys and current.encode() not in keys:
        raise ConfigurationError(f"current={current!r} is none of the keys {', '.join(map(_shown, keys))}")
    return b"" if not keys else next(iter(keys)) if current is None else current.encode()


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise ConfigurationError("encryption needs cryptography: pip install 'duly[encryption]'") from error
    return AESGCM(key)


def _signature(key: bytes, before: bytes, data: bytes) -> bytes:
    return hmac.digest(key, before + data, "sha256")


def _part(data: bytes) -> bytes:
    return bytes((len(data),)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    """The part that comes first, and the rest."""
    end = 1 + data[0] if data else 1
    if len(data) < end:
        raise Refused("it is damaged: it is too short")
    return data[1:end], data[end:]


def _shown(id: bytes) -> str:
    return repr(id[:50].decode(errors="replace"))
