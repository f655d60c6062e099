"""Places: where an address is, by a database in MaxMind's format; the address itself is never kept."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from features.errors import ProjectError

if TYPE_CHECKING:
    from maxminddb import Reader


@dataclass(frozen=True)
class Places:
    """The database that the project names (`places:`), such as MaxMind's GeoLite2-City or DB-IP's; one of your own.

    Attributes:
        path: Its file; None: no place is known. A file that was replaced is opened again.
    """

    path: Path | None = None

    @property
    def version(self) -> str:
        """What the database calls itself, and its build in seconds since 1970; empty without one."""
        about = self._reader.metadata() if self._reader else None
        return f"{about.database_type} {about.build_epoch}" if about else ""

    def of(self, addresses: pl.Series, inside: str) -> pl.Series:
        """What the database says of each address; null where it says nothing.

        Args:
            addresses: IPv4 or IPv6 as texts.
            inside: The path inside a record: `country.iso_code`, `subdivisions.0.iso_code`, `city.names.en`.
        """
        reader = self._reader
        distinct = addresses.unique().drop_nulls() if reader else addresses.clear()
        found = pl.Series([_text(_record(reader, address), inside) for address in distinct], dtype=pl.String)
        return addresses.replace_strict(distinct, found, default=None, return_dtype=pl.String)

    @property
    def _reader(self) -> "Reader | None":
        if self.path is None:
            return None
        try:
            return _opened(self.path, self.path.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise ProjectError(f"places: {self.path.name} is no MaxMind database that can be read: {error}.") from None


@lru_cache(maxsize=4)
def _opened(path: Path, changed: int) -> "Reader":
    from maxminddb import InvalidDatabaseError, open_database

    try:
        return open_database(path)
    except InvalidDatabaseError as error:
        raise ValueError(error) from None


def _record(reader: "Reader | None", address: str) -> object:
    try:
        return reader.get(address.strip()) if reader else None
    except ValueError:  # no address, or one of version 6 in a database of version 4
        return None


def _text(record: Any, inside: str) -> str | None:  # noqa: ANN401 - whatever a database holds
    for step in inside.split("."):
        each = dict(enumerate(record)) if isinstance(record, list) else record
        record = each.get(int(step) if step.isdecimal() else step) if isinstance(each, dict) else None
    return str(record) if isinstance(record, str | int) else None
