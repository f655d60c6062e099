"""Erasure: tombstones of erased persons, so that a late event or an old file cannot bring anybody back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import polars as pl

from features.errors import LogError
from features.people import pseudonym


@dataclass(frozen=True)
class Tombstones:
    """Pseudonyms of erased ids, each with the instant of its erasure.

    What an erased id did up to that instant never enters the log again; what it does later is a new beginning.
    """

    erased: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The tombstones in a file; none where there is no file."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8"))["erased"])
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError):
            raise LogError(
                f"{path.name} is damaged. Hint: restore it from a backup; it keeps erased people out."
            ) from None

    def write(self, path: Path) -> None:
        """Replace the file whole."""
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(json.dumps({"version": 1, "erased": dict(self.erased)}, indent=1), encoding="utf-8")
        temporary.replace(path)

    def adding(self, ids: Iterable[str], key: bytes, at: int) -> "Tombstones":
        """These and the ids erased at `at`."""
        return Tombstones({**self.erased, **{pseudonym(key, name): at for name in sorted(ids)}})

    def cover(self, frame: pl.DataFrame, key: bytes, columns: Iterable[str], *, hashed: bool = False) -> pl.Series:
        """Per row, whether one of the ids in `columns` was erased at or after the row's ts (a row without one: yes).

        Args:
            frame: Has `columns` and ts.
            key: The project's key.
            columns: Names of id columns.
            hashed: The columns hold pseudonyms already.
        """
        covered = pl.Series("covered", [False]).new_from_index(0, frame.height)
        if not self.erased:
            return covered
        for name in columns:
            ids = frame[name].unique().drop_nulls()
            known = {each: self.erased.get(each if hashed else pseudonym(key, each)) for each in ids}
            times = {each: at for each, at in known.items() if at is not None}
            if times:
                until = frame[name].replace_strict(times, default=None, return_dtype=pl.Int64)
                covered = covered | (until.is_not_null() & (frame["ts"].is_null() | (frame["ts"] <= until)))
        return covered
