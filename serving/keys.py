"""Keys: who may ask, and for what; of a key only a digest is kept, so it is shown once, when it is made."""

import hmac
import logging
import math
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import msgspec

from features.errors import ProjectError, nearest
from features.events.parts import locked
from features.instants import iso

LOGGER = logging.getLogger("ethogram.keys")

SCOPES = ("read", "write", "admin")
"""To ask; to send events; both, and the metrics."""
LOOK_S = 1.0
"""How long a revoked key may still be let in, and whoever shows none before the first is known."""
MARK = "ek"
TOKEN_S = 3600
"""What a browser's token may live."""
AUDIENCE = "ethogram"


@dataclass(frozen=True)
class Key:
    """What is kept of a key.

    Attributes:
        id: Its public part.
        name: Whose it is, for people.
        scopes: What it may be used for.
        digest: SHA-256 of the key, which has 256 random bits.
        created: When.
        until: Seconds since 1970 up to which it is let in; None: until it is revoked.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    digest: str
    created: str
    until: float | None = None


@dataclass(frozen=True)
class Caller:
    """Who was let in.

    Attributes:
        name: What the rate is counted under.
        scopes: What they may do.
        subject: The only user that they may ask about; None: anybody.
    """

    name: str
    scopes: frozenset[str]
    subject: str | None = None

    def may(self, scope: str) -> bool:
        """Whether a scope is among theirs; admin is all of them."""
        return scope in self.scopes or "admin" in self.scopes


EVERYTHING = frozenset(SCOPES)


class Keys:
    """The file of keys, the one of the environment, and the secrets behind browsers' tokens."""

    def __init__(self, path: Path, *, single: str | None = None, token_keys: Iterable[str] = ()) -> None:
        self.path = path
        self.single = single
        self.token_keys = tuple(token_keys)
        self._keys: Mapping[str, Key] | None = None
        self._looked = -LOOK_S
        self._seen = 0

    @property
    def needed(self) -> bool:
        """Whether callers have to show anything: as soon as there is a file, even one without a key left."""
        return self.single is not None or bool(self.token_keys) or self._current() is not None

    def caller(self, shown: str) -> Caller | None:
        """Who shows this key; None for nobody known."""
        if self.single is not None and hmac.compare_digest(shown.encode(), self.single.encode()):
            return Caller("environment", EVERYTHING)
        key = (self._current() or {}).get(shown.split("_")[1] if shown.startswith(MARK + "_") else "")
        known = key.digest if key else "0" * 64  # an id that nobody has takes as long as one with another secret
        if hmac.compare_digest(_digest(shown), known) and key is not None and time.time() < (key.until or math.inf):
            return Caller(key.id, frozenset(key.scopes))
        if shown.count(".") != 2:
            return None
        return next((caller for secret in self.token_keys if (caller := _bearer(shown, secret))), None)

    def _current(self) -> Mapping[str, Key] | None:
        """The keys of the file, as of a second ago; None where there is none."""
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            try:
                self._look()
            except (ProjectError, OSError) as error:
                LOGGER.error("nobody is let in by a key: %s", error)
                self._keys = {}
        return self._keys

    def _look(self) -> None:
        """Read the file where it has changed; one that is gone leaves the door shut, with no key that fits."""
        changed = self.path.stat().st_mtime_ns if self.path.exists() else 0
        if changed != self._seen:
            self._seen = changed
            self._keys = {key.id: key for key in self.all()}

    def all(self) -> list[Key]:
        """Every key of the file, oldest first.

        Raises:
            ProjectError: the file is damaged.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=list[Key])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            raise ProjectError(
                f"{self.path} is damaged: {error}. Hint: restore it, or remove it and make new keys."
            ) from None

    def create(self, name: str, scopes: Iterable[str]) -> tuple[str, Key]:
        """(the key, what is kept of it).

        Raises:
            ProjectError: a scope that there is not.
        """
        with locked(self.path.with_name(self.path.name + ".lock")):
            return self._add(self.all(), name, scopes)

    def _add(self, keys: list[Key], name: str, scopes: Iterable[str]) -> tuple[str, Key]:
        wanted = tuple(dict.fromkeys(scopes))
        for scope in wanted:
            if scope not in SCOPES:
                raise ProjectError(f"unknown scope {scope!r}. {nearest(scope, SCOPES)}")
        public = secrets.token_hex(4)
        shown = f"{MARK}_{public}_{secrets.token_urlsafe(32)}"
        key = Key(public, name, wanted, _digest(shown), iso(time.time_ns() // 1000))
        self._write([*keys, key])
        return shown, key

    def rotate(self, public: str, *, grace_s: float) -> tuple[str, Key]:
        """(a new key in the place of another, what is kept of it); the one before is let in for `grace_s` more.

        Raises:
            ProjectError: there is no such key.
        """
        with locked(self.path.with_name(self.path.name + ".lock")):
            old, end = self._named(public), time.time() + grace_s
            keys = [replace(key, until=min(end, key.until or end)) if key == old else key for key in self.all()]
            return self._add(keys, old.name, old.scopes)

    def revoke(self, public: str) -> Key:
        """Forget a key: within a second nobody is let in with it.

        Raises:
            ProjectError: there is no such key.
        """
        with locked(self.path.with_name(self.path.name + ".lock")):
            gone = self._named(public)
            self._write([key for key in self.all() if key != gone])
        return gone

    def _named(self, public: str) -> Key:
        for key in self.all():
            if key.id == public:
                return key
        raise ProjectError(f"there is no key {public!r}. Hint: `ethogram keys list`.")

    def _write(self, keys: list[Key]) -> None:
        draft = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.format(msgspec.json.encode([asdict(key) for key in keys])))
        draft.replace(self.path)


def _digest(shown: str) -> str:
    return sha256(shown.encode()).hexdigest()


def _bearer(token: str, secret: str) -> Caller | None:
    """Whom a browser's token names; they may ask about themselves."""
    import jwt

    try:
        said = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            audience=AUDIENCE,
            options={"require": ["exp", "iat", "sub", "aud"]},
        )
        if said["exp"] - said["iat"] > TOKEN_S:
            return None
    except (jwt.PyJWTError, TypeError):
        return None
    return Caller(f"sub:{said['sub']}", frozenset(), str(said["sub"])) if said["sub"] else None
