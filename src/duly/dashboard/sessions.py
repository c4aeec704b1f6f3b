"""Sessions of browsers: a signed cookie that says the role and the end, and the token that forms carry.

Nothing is kept here but the sessions that were logged out before their end. The token of the forms is another signature
over the session's id, so it is worth nothing without the cookie.
"""

from __future__ import annotations

import binascii
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict

import msgspec

from duly.clock import Clock
from duly.dashboard.access import Role

LASTS = 12 * 3600
"""Seconds from the log-in, however much it is used."""
MOST_ENDED = 10_000
LONGEST = 500


class Session(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """role: "" before a log-in. until: epoch seconds."""

    id: str
    role: Role
    until: int


class Sessions:
    """Makes and reads the cookies."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key, self._clock = key, clock
        self._ended: OrderedDict[str, int] = OrderedDict()

    @property
    def now(self) -> int:
        """Epoch seconds of this machine: sessions are its own."""
        return self._clock.epoch_us() // 1_000_000

    def begin(self, role: Role) -> Session:
        """A new one, of an id that nobody can guess."""
        return Session(secrets.token_urlsafe(18), role, self.now + LASTS)

    def write(self, session: Session) -> str:
        """The cookie's value."""
        packed = urlsafe_b64encode(msgspec.msgpack.encode(session)).decode()
        return f"{packed}.{self._sign('session', packed)}"

    def read(self, cookie: str) -> Session | None:
        """The session; None if it is not ours, is over, or was logged out."""
        packed, _, signature = cookie.rpartition(".")
        if len(cookie) > LONGEST or not self._is_signed("session", packed, signature):
            return None
        try:
            session = msgspec.msgpack.decode(urlsafe_b64decode(packed), type=Session)
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            return None
        return None if self.is_over(session) else session

    def is_over(self, session: Session) -> bool:
        """Whether its time has come, or it was logged out."""
        return session.until <= self.now or session.id in self._ended

    def end(self, session: Session) -> None:
        """The cookie is worth nothing from now on, in this process."""
        self._ended[session.id] = session.until
        while len(self._ended) > MOST_ENDED or next(iter(self._ended.values())) <= self.now:
            self._ended.popitem(last=False)
            if not self._ended:
                break

    def token(self, session: Session) -> str:
        """What forms of this session carry."""
        return self._sign("form", session.id)

    def is_token(self, session: Session, given: str) -> bool:
        return self._is_signed("form", session.id, given)

    def _sign(self, purpose: str, text: str) -> str:
        signature = hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256")
        return urlsafe_b64encode(signature).rstrip(b"=").decode()

    def _is_signed(self, purpose: str, text: str, given: str) -> bool:
        right = self._sign(purpose, text)
        return hmac.compare_digest(right.encode(), given.encode("utf-8", "surrogatepass"))
