"""Who asks: an API key opens one project. Looked up once in a while, not for every request."""

import time
from typing import Final, NamedTuple

from rethread.errors import Unauthorized
from rethread.http.strangers import check_local
from rethread.store import keys
from rethread.store.database import Database

ANONYMOUS_PROJECT: Final = "default"
KNOWN_FOR_SECONDS: Final = 2.0  # so soon a revoked key, or the first one made, is noticed
MOST_KNOWN: Final = 10_000
STRANGER: Final = ""

NO_KEY: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with "
    "blank username) if you're accessing the API from your browser and are prompted for a "
    "username and password. Keys are made with: rethread keys create --project NAME"
)


class _Known(NamedTuple):
    """Whom a key stands for, and the time until which that is not asked again."""

    project: str
    until: float
    is_trusted: bool  # not: taken without a key, for being on this machine


NOBODY: Final = _Known("", 0.0, is_trusted=False)


class KeyRing:
    """The keys of the store, each remembered for a moment."""

    def __init__(self, db: Database, *, allow_anonymous: bool) -> None:
        self._db = db
        self._allow_anonymous = allow_anonymous
        self._known: dict[str, _Known] = {}

    async def project(self, headers: dict[bytes, bytes]) -> str:
        """The project that a request's key opens; Unauthorized without a good one.

        As long as no key was made, or where anonymous use is allowed, a request without a
        good key belongs to the project `default`; in the first case only if it is this machine's
        own: Forbidden otherwise.
        """
        secret = _secret(headers)
        # What cannot be a key is a stranger, and all strangers are known as one.
        key = secret if secret is not None and keys.may_be_key(secret) else STRANGER
        now = time.monotonic()
        known = self._known.get(key, NOBODY)
        if known.until <= now:
            found = await self._look_up(key, until=now + KNOWN_FOR_SECONDS)
            if found is None:
                raise _refusal(secret)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[key] = found
        if not known.is_trusted:
            check_local(headers)
        return known.project

    async def _look_up(self, key: str, *, until: float) -> _Known | None:
        project = None if key == STRANGER else await keys.project_of(self._db, key)
        if project is not None:
            return _Known(project, until, is_trusted=True)
        if self._allow_anonymous or not await keys.any_made(self._db):
            return _Known(ANONYMOUS_PROJECT, until, is_trusted=self._allow_anonymous)
        return None


def _secret(headers: dict[bytes, bytes]) -> str | None:
    """The bearer token, or Azure's `api-key`."""
    if (azure := headers.get(b"api-key")) is not None:
        return azure.decode("latin-1").strip() or None
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def _refusal(secret: str | None) -> Unauthorized:
    if secret is None:
        return Unauthorized(NO_KEY)
    return Unauthorized(
        f"Incorrect API key provided: {_hinted(secret)}. Keys are made with: "
        "rethread keys create --project NAME",
        code="invalid_api_key",
    )


def _hinted(secret: str) -> str:
    """Enough of a wrong key for its owner to know it by."""
    return f"{secret[:3]}***{secret[-4:]}" if len(secret) > 16 else "***"
