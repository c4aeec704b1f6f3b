"""Sealed bytes: whoever has a key reads them, and whoever has none neither makes nor changes any; secrets are never shown."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duly import ConfigurationError, Keys
from duly.config import Config
from duly.core import codec
from duly.stores import open_store
from duly.stores.base import Shard
from duly.stores.capabilities import Keyed, Lined, Movable
from duly.stores.sealed import Seal, SealedShard
from duly.stores.sealing import Refused, context_of, is_sealed, keys_of_environment

OLD, NEW = "o" * 40, b"n" * 32
HERE = context_of("job", "duly", "default", "a")
BODY = codec.encode("pay", (42,))
KINDS: Mapping[str, Any] = {
    "signed": lambda secret: Keys({"k": secret}),
    "encrypted": lambda secret: Keys(encryption={"k": secret}),
    "both": lambda secret: Keys({"k": secret}, {"k": secret}),
}


@pytest.fixture(params=list(KINDS))
def keys(request: pytest.FixtureRequest) -> Keys:
    made: Keys = KINDS[request.param](OLD)
    return made


def refused(keys: Keys, data: bytes, context: bytes = HERE) -> str:
    with pytest.raises(Refused) as found:
        keys.open(data, context)
    return str(found.value)


@given(st.binary(max_size=300), st.sampled_from(list(KINDS)))
def test_what_was_sealed_is_opened(data: bytes, kind: str) -> None:
    keys = KINDS[kind](OLD)
    sealed = keys.seal(data, HERE)
    assert is_sealed(sealed)
    assert not is_sealed(sealed[:2])  # it says so, and holds nothing
    assert keys.open(sealed, HERE) == data
    assert KINDS[kind](OLD).open(sealed, HERE) == data  # another process


def test_what_is_encrypted_cannot_be_read_and_what_is_signed_can() -> None:
    assert b"pay" in KINDS["signed"](OLD).seal(BODY, HERE)
    for kind in ("encrypted", "both"):
        first, second = (KINDS[kind](OLD).seal(BODY, HERE) for _ in range(2))
        assert b"pay" not in first
        assert first != second  # a nonce of its own for each


@pytest.mark.parametrize("kind", list(KINDS))
def test_whichever_byte_is_flipped_it_is_refused(kind: str) -> None:
    keys = KINDS[kind](OLD)
    sealed = keys.seal(BODY, HERE)
    for place in range(len(sealed)):
        for flip in (1, 2, 3, 0x80, 0xFF):
            changed = bytearray(sealed)
            changed[place] ^= flip
            refused(keys, bytes(changed))
    for length in range(len(sealed)):
        refused(keys, sealed[:length])
    refused(keys, sealed + b"\0")


@given(st.binary(max_size=200), st.sampled_from(list(KINDS)), st.integers(0, 4))
@example(b"", "signed", 1)
@example(b"\xff", "both", 3)
@example(b"\x01k\x20", "both", 3)
def test_bytes_from_nowhere_are_refused_and_nothing_worse(data: bytes, kind: str, flags: int) -> None:
    refused(KINDS[kind](OLD), data)
    refused(KINDS[kind](OLD), bytes((codec.VERSION, flags)) + data)


@pytest.mark.parametrize(
    "elsewhere",
    [
        ("job", "duly", "default", "b"),
        ("job", "duly", "mail", "a"),
        ("job", "shop", "default", "a"),
        ("result", "duly", "default", "a"),
    ],
)
def test_what_was_sealed_for_one_thing_is_refused_as_another(keys: Keys, elsewhere: tuple[str, str, str, str]) -> None:
    assert "made for something else" in refused(keys, keys.seal(BODY, HERE), context_of(*elsewhere))


def test_another_secret_under_the_same_id_is_refused(keys: Keys) -> None:
    others = [make(NEW) for make in KINDS.values()]
    for other in others:
        refused(keys, other.seal(BODY, HERE))


def test_a_key_that_is_not_known_is_named() -> None:
    sealed = Keys({"2026-11": OLD}).seal(BODY, HERE)
    assert (
        refused(Keys({"2026-12": OLD}), sealed) == "it is signed with key '2026-11', which this process does not have"
    )
    sealed = Keys(encryption={"2026-11": OLD}).seal(BODY, HERE)
    assert refused(Keys(encryption={"2026-12": OLD}), sealed).startswith("it is encrypted with key '2026-11'")


def test_what_is_not_sealed_or_not_as_it_has_to_be_is_refused_unless_that_is_allowed() -> None:
    signing, both = Keys({"k": OLD}), Keys({"k": OLD}, {"k": NEW})
    assert refused(signing, BODY) == "it is not signed"
    assert refused(both, signing.seal(BODY, HERE)) == "it is not encrypted"
    assert refused(both, Keys(encryption={"k": NEW}).seal(BODY, HERE)) == "it is not signed"
    lenient = Keys({"k": OLD}, {"k": NEW}, require=False)
    assert lenient.open(BODY, HERE) == BODY
    assert lenient.open(signing.seal(BODY, HERE), HERE) == BODY
    assert "does not fit" in refused(lenient, Keys({"k": NEW}).seal(BODY, HERE))


@pytest.mark.parametrize("require", [True, False])
def test_taking_flags_away_helps_nobody(require: bool) -> None:
    keys = Keys({"k": OLD}, {"k": NEW}, require=require)
    sealed = keys.seal(BODY, HERE)
    without_signature = sealed[:1] + b"\x02" + sealed[2 + 2 + 1 + 32 :]
    refused(keys, without_signature)
    refused(Keys(encryption={"k": NEW}, require=require), without_signature)
    refused(keys, sealed[:1] + b"\x01" + sealed[2:])


def test_who_can_read_but_not_sign_reads() -> None:
    sealed = Keys({"k": OLD}, {"k": NEW}).seal(BODY, HERE)
    assert Keys(encryption={"k": NEW}).open(sealed, HERE) == BODY
    assert "which this process does not have" in refused(Keys({"k": OLD}), sealed)


def test_keys_are_rotated_without_a_gap() -> None:
    before = Keys({"1": OLD}, {"1": OLD})
    known = Keys({"1": OLD, "2": NEW}, {"1": OLD, "2": NEW}, current="1")
    after = Keys({"1": OLD, "2": NEW}, {"1": OLD, "2": NEW}, current="2")
    for writer, readers in ((before, (before, known, after)), (known, (before, known, after)), (after, (known, after))):
        for reader in readers:
            assert reader.open(writer.seal(BODY, HERE), HERE) == BODY
    refused(before, after.seal(BODY, HERE))
    refused(Keys({"2": NEW}, {"2": NEW}), before.seal(BODY, HERE))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give signing="),
        ({"signing": {"k": OLD[:31]}}, "32 characters or bytes of chance, or more; it is 31 of them"),
        ({"signing": {"k": 5}}, "it is int"),
        ({"signing": OLD}, "by the ids of their keys"),
        ({"signing": {"a b": OLD}}, "give each key an id"),
        ({"signing": {"": OLD}}, "give each key an id"),
        ({"signing": {"a": OLD, "b": OLD}}, "say which is current=, of 'a', 'b'"),
        ({"signing": {"a": OLD}, "encryption": {"b": OLD}, "current": "a"}, "current='a' is none of the keys 'b'"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_in_words_without_secrets(arguments: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Keys(**arguments)
    assert said in str(error.value)
    assert OLD[:31] not in "".join(traceback.format_exception_only(error.value))


def test_secrets_are_in_no_text_that_an_object_gives() -> None:
    keys = Keys({"k": OLD}, {"k": NEW}, require=False)
    assert repr(keys) == "<Keys signing=['k'] encryption=['k'] require=False>"
    assert OLD not in f"{keys} {keys!r}"
    assert not hasattr(keys, "__dict__")


def test_keys_come_from_the_environment_too() -> None:
    given = {
        "DULY_SIGNING_KEYS": f"1={OLD},2={NEW.decode()}",
        "DULY_ENCRYPTION_KEYS": f"2={OLD}=",
        "DULY_CURRENT_KEY": "2",
        "DULY_REQUIRE_KEYS": "no",
    }
    keys = keys_of_environment(given)
    assert repr(keys) == "<Keys signing=['1', '2'] encryption=['2'] require=False>"
    assert keys is not None
    assert Keys({"2": NEW}, {"2": f"{OLD}="}).open(keys.seal(BODY, HERE), HERE) == BODY
    assert keys_of_environment({}) is None
    for wrong, said in (({"DULY_REQUIRE_KEYS": "maybe"}, "'maybe'"), ({"DULY_SIGNING_KEYS": OLD}, "give id=secret")):
        with pytest.raises(ConfigurationError, match=said) as error:
            keys_of_environment(given | wrong)
        assert OLD not in str(error.value)


def test_without_the_library_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\nfrom duly import Keys\nKeys({'k': 'x' * 32})\n"
        "try:\n    Keys(encryption={'k': 'x' * 32})\nexcept ValueError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'duly[encryption]'" in said.stdout


@pytest.mark.parametrize("url", ["memory://", "sqlite:///x.db", "redis://localhost:1"])
def test_a_sealed_shard_can_do_what_the_shard_can(url: str) -> None:
    verbs = {name for name in dir(Shard) if not name.startswith("_")} - {"queue"}
    inner = open_store(url).shard("default")
    sealed = Seal(Keys({"k": OLD}), Config()).shard(inner, "default")
    assert verbs <= set(dir(SealedShard))
    assert [isinstance(sealed, one) for one in (Keyed, Lined, Movable)] == [
        isinstance(inner, one) for one in (Keyed, Lined, Movable)
    ]
