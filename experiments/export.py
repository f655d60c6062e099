"""Export: who is in which segment, with scores and features, to Parquet, CSV or a database; done twice, it is the same.

What was written of a segment as of an instant is replaced whole, so a run that is repeated leaves one copy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from experiments.audience import Audience
from features.errors import AnalysisError, DefinitionError
from features.events.plan import Purpose
from features.files import rewrite, write_parquet
from features.instants import iso
from features.project import Project
from features.segments.ledger import Ledger

AT_ONCE = 10_000
"""Rows a statement."""
TABLE = "memberships"
READERS: dict[str, Callable[[Path, pl.Schema], pl.DataFrame]] = {
    ".parquet": lambda path, _: pl.read_parquet(path),
    ".csv": lambda path, schema: pl.read_csv(path, schema_overrides=schema),
}


@dataclass(frozen=True)
class Export:
    """Rows that are ready to be written.

    Attributes:
        rows: Columns segment, as_of, user and what else was asked for; instants are UTC.
        segments: Whose rows of these instants are replaced, those of nobody included.
        instants: Microseconds UTC.
        hidden: Asked for too, but below their `min_size`, not applied or no longer declared: what was written of them
            goes.
    """

    rows: pl.DataFrame
    segments: tuple[str, ...]
    instants: tuple[int, ...]
    hidden: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        project: Project,
        *,
        at: int | None = None,
        names: Sequence[str] = (),
        scores: bool = False,
        features: bool = False,
        changes: bool = False,
    ) -> Self:
        """The members of segments as they were applied, or the changes that their `emit` names.

        Args:
            project: Whose.
            at: As of; by default the last `apply`.
            names: Of segments; all that were applied where none are named.
            scores: With what every model says of them.
            features: With their features.
            changes: All changes up to then instead.

        Raises:
            AnalysisError: nothing was applied yet, or not as late as that.
            DefinitionError: there is no such segment.
        """
        ledger = Ledger.read(project.path("memberships"))
        if ledger.at is None or (at is not None and at > ledger.at):
            until = "nothing was applied yet" if ledger.at is None else f"the last `apply` was as of {iso(ledger.at)}"
            raise AnalysisError(f"{until}. Hint: `ethogram segments apply`.")
        audience, as_of = Audience.of(project, at if at is not None else ledger.at), ledger.at if at is None else at
        known = {name: audience.segments.segment(name) for name in names or audience.segments.names}
        willing = [user for each in audience.everybody(Purpose.PERSONALISATION) for user in each.users.tolist()]
        members = ledger.members(as_of).filter(pl.col("user").is_in(willing))
        sizes = dict(members.group_by("segment").len().iter_rows())
        large = tuple(n for n, each in known.items() if n in ledger.segments and sizes.get(n, 0) >= each.min_size)
        gone = () if names else ledger.changes().select("segment").unique().collect()["segment"].to_list()
        about = large, (as_of,), tuple(sorted({*known, *gone} - {*large}))
        if changes:
            emitted = [(name, word == "entered") for name in large for word in known[name].emit]
            return cls(_changes(ledger, as_of, emitted, willing), *about)
        rows = members.filter(pl.col("segment").is_in(large)).select(
            "segment", _instant(pl.lit(as_of)).alias("as_of"), "user", _instant(pl.col("since")), "cause"
        )
        if scores or features:
            rows = rows.join(_figures(audience, as_of, scores=scores, features=features), on="user", how="left")
        return cls(rows.sort("segment", "user"), *about)

    def write(self, to: str, *, table: str = TABLE) -> int:
        """Write the rows, in place of those of the same segments and instant; how many there are.

        Args:
            to: A path that ends in `.parquet` or `.csv`, or the URL of a database as SQLAlchemy reads it.
            table: Of the database; made where it is not there.

        Raises:
            DefinitionError: neither a known kind of file nor a URL.
            AnalysisError: the database cannot be reached, or its table has other columns.
        """
        if "://" in to:
            self._to_database(to, table)
        elif Path(to).suffix in READERS:
            self._to_file(Path(to))
        else:
            raise DefinitionError(f"{to!r} is neither a .parquet or .csv file nor a database such as postgresql://...")
        return self.rows.height

    @property
    def _replaced(self) -> tuple[str, ...]:
        return self.segments + self.hidden

    @property
    def _moments(self) -> list[datetime]:
        return pl.Series(self.instants, dtype=pl.Datetime("us")).to_list()

    def _to_file(self, path: Path) -> None:
        rows = self.rows
        if path.exists():
            before = READERS[path.suffix](path, rows.schema)
            if before.columns != rows.columns:
                raise AnalysisError(f"{path} has other columns: {', '.join(before.columns)}. Hint: another file.")
            same = pl.col("segment").is_in(self._replaced) & pl.col("as_of").is_in(self._moments)
            rows = pl.concat([before.cast(rows.schema).filter(~same), rows])
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            write_parquet(path, rows)
            return
        rewrite(path, rows.write_csv())

    def _to_database(self, url: str, name: str) -> None:
        import sqlalchemy as sql
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

        try:
            engine = sql.create_engine(url)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise DefinitionError(f"the database cannot be opened: {error}. Hint: its driver may be missing.") from None
        columns = [sql.Column(column, _type(sql, kind)) for column, kind in self.rows.schema.items()]
        table = sql.Table(name, sql.MetaData(), *columns)
        same = sql.and_(table.c.segment.in_(self._replaced), table.c.as_of.in_(self._moments))
        try:
            with engine.begin() as connection:
                table.create(connection, checkfirst=True)
                connection.execute(table.delete().where(same))
                for part in self.rows.iter_slices(AT_ONCE):
                    connection.execute(table.insert(), part.to_dicts())
        except SQLAlchemyError as error:
            told = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise AnalysisError(f"the table {name!r} cannot be written: {told}. Hint: another `--table`.") from None
        finally:
            engine.dispose()


def _type(sql: Any, kind: pl.DataType) -> Any:  # noqa: ANN401 - a module and its types
    if kind == pl.String:
        return sql.String
    return sql.DateTime if kind == pl.Datetime else sql.Boolean if kind == pl.Boolean else sql.Float


def _instant(expression: pl.Expr) -> pl.Expr:
    """Microseconds as a moment, UTC, that says no zone."""
    return expression.cast(pl.Datetime("us"))


def _changes(ledger: Ledger, at: int, emitted: Sequence[tuple[str, bool]], willing: Sequence[str]) -> pl.DataFrame:
    wanted = pl.DataFrame(emitted, schema={"segment": pl.String, "entered": pl.Boolean}, orient="row")
    found = (
        ledger.changes()
        .filter(pl.col("at") <= at, pl.col("user").is_in(willing))
        .collect()
        .join(wanted, on=["segment", "entered"])
    )
    word = pl.when("entered").then(pl.lit("entered")).otherwise(pl.lit("exited"))
    named = found.select(
        "segment", _instant(pl.lit(at)).alias("as_of"), "user", word.alias("change"), _instant(pl.col("at")), "cause"
    )
    return named.sort("segment", "at", "user")


def _figures(audience: Audience, at: int, *, scores: bool, features: bool) -> pl.DataFrame:
    """Per user what was asked for."""
    parts = []
    for histories in audience.everybody(Purpose.PERSONALISATION):
        matrix = audience.matrix(histories, at)
        columns: dict[str, Any] = {"user": histories.users.tolist()}
        for study, said in (audience.scores(matrix) if scores else {}).items():
            columns[study] = (
                said.column() if said.probability is not None else [said.names[k] for k in said.column().astype(int)]
            )
        if features:
            columns |= {name: np.asarray(matrix.column(name), np.float64) for name in matrix.names}
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)
