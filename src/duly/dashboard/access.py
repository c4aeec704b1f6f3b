"""Who may see the dashboard, and who may change what it shows.

A password opens a session in the browser (`sessions`), a token stands in each request of a program; each of them either
to read, or to read and write. Where the application around the dashboard, or nothing but the loopback, keeps strangers
out, that is said aloud: `authorize=` or `open=True`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from duly.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.requests import Request

Role = Literal["", "read", "write"]
Authorize: TypeAlias = "Callable[[Request], Role | Awaitable[Role | None] | None]"
LEAST_PASSWORD, LEAST_TOKEN = 8, 16
"""Characters. A token is not protected by a limit of tries, so it has to be long."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
SETTINGS = ("password", "token", "read_password", "read_token")
PREFIX = "DULY_DASHBOARD_"


class Viewer(msgspec.Struct, frozen=True):
    """Who asks. role: "" for somebody who has not logged in. csrf: the token for forms, "" where none is needed.

    by: session, token, open (nobody is asked who they are) or outer (the application around has said so).
    """

    role: Role
    csrf: str
    address: str
    by: Literal["session", "token", "open", "outer"]

    @property
    def may_write(self) -> bool:
        return self.role == "write"

    @property
    def who(self) -> str:
        """For the log: never a secret."""
        return f"{self.role or 'nobody'} by {self.by} from {self.address}"


class Access:
    """Who may what. Raises ConfigurationError for what keeps nobody out without saying so.

    password, token: to read and to change; read_password, read_token: to read. authorize: asked for each request, gives
    "read", "write" or None, by the application that the dashboard is mounted in; may be async. open: everybody may do
    everything. secret: signs the sessions; without one, sessions end with the process, and are known to it alone.
    hosts: names under which it may be asked for (without ports); None: any.
    """

    def __init__(  # architecture: each is one way in
        self, *, password: str = "", token: str = "", read_password: str = "", read_token: str = "",
        authorize: Authorize | None = None, open: bool = False, secret: str = "", hosts: frozenset[str] | None = None,
    ) -> None:  # fmt: skip
        self._passwords: dict[str, Role] = {read_password: "read", password: "write"}
        self._tokens: dict[str, Role] = {read_token: "read", token: "write"}
        for known in (self._passwords, self._tokens):
            known.pop("", None)
        self.authorize, self.open, self.hosts, self._secret = authorize, open, hosts, secret
        _check_lengths("password", self._passwords, LEAST_PASSWORD)
        _check_lengths("token", self._tokens, LEAST_TOKEN)
        _check_lengths("secret", [secret] if secret else [], LEAST_TOKEN)
        if (password and password == read_password) or (token and token == read_token):
            raise ConfigurationError("who may read and who may write have the same password or token: give two")
        self._check_ways()

    def _check_ways(self) -> None:
        ways = [bool(self._passwords or self._tokens), self.authorize is not None, self.open]
        if not any(ways):
            raise ConfigurationError(
                "anybody could see and change everything in this dashboard: give a password or a token "
                "(DULY_DASHBOARD_PASSWORD, DULY_DASHBOARD_TOKEN, or access=Access(password=…)), authorize= where the "
                "application around it knows its users, or say open=True"
            )
        if sum(ways) > 1:
            raise ConfigurationError("give passwords and tokens, or authorize=, or open=True: one of the three")

    def __repr__(self) -> str:
        return f"<Access {'open' if self.open else 'authorize' if self.authorize else 'by password or token'}>"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> Access:
        """From DULY_DASHBOARD_PASSWORD, _TOKEN, _READ_PASSWORD, _READ_TOKEN and _SECRET, where `given` has nothing."""
        found = {name: environment.get(PREFIX + name.upper(), "") for name in (*SETTINGS, "secret")}
        if given.get("open") or given.get("authorize"):
            found = {"secret": found["secret"]}
        return cls(**(found | {name: value for name, value in given.items() if value}))

    @property
    def has_password(self) -> bool:
        """Whether there is anything to log in with."""
        return bool(self._passwords)

    def role_of_password(self, given: str) -> Role:
        """ "" if it is none."""
        return _match(given, self._passwords)

    def role_of_token(self, given: str) -> Role:
        """ "" if it is none."""
        return _match(given, self._tokens)

    def key(self) -> bytes:
        """What sessions are signed with; another password makes another key, so that it ends the sessions of the former."""
        secret = self._secret.encode() or os.urandom(32)
        known = "\0".join(f"{role}:{password}" for password, role in sorted(self._passwords.items()))
        return hmac.digest(secret, f"duly dashboard sessions\0{known}".encode(), "sha256")


def _match(given: str, known: Mapping[str, Role]) -> Role:
    """Looks at every one, whichever is right, by hashes of one length: the time says nothing."""
    found: Role = ""
    for one, role in known.items():
        if hmac.compare_digest(_hashed(one), _hashed(given)):
            found = role
    return found


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _check_lengths(what: str, known: Iterable[str], least: int) -> None:
    if any(len(one) < least for one in known):
        raise ConfigurationError(f"a {what} of the dashboard has fewer than {least} characters: give a longer one")
