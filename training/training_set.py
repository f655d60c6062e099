"""Training set: rows (user, at) with features as known at `at` and the label of what came after."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import TS, StateSchema
from features.errors import StudyError
from features.events.plan import Codes, Purpose, TrackingPlan
from features.instants import format_duration, iso
from features.people import hash_text
from training.cuts import PARTS, SHARE, Cuts, CutsSpec
from training.label import Condition, Label, Outcome, narrowed

if TYPE_CHECKING:
    import pandas as pd

TRAIN, VALIDATION, TEST = range(3)


class Log(Protocol):
    """What a training set needs of an event log."""

    def span(self) -> tuple[int, int]:
        """First and last `ts`."""

    def histories_by_bucket(self, schema: StateSchema) -> Iterator[Histories]:
        """Every person's whole history, some persons at a time."""


@dataclass(frozen=True)
class TrainingSet:
    """Rows to learn from, choose by and judge on.

    Attributes:
        matrix: Features of the rows, as known at each row's `at`.
        y: Shape (n_rows,), the label; None where nothing is predicted.
        parts: Shape (n_rows,), int8, places in `PARTS`.
        provenance: Where the rows come from, in plain values.
    """

    matrix: FeatureMatrix
    y: NDArray[np.float64] | None
    parts: NDArray[np.int8]
    provenance: Mapping[str, object]

    @classmethod
    def build(
        cls,
        log: Log | Histories,
        features: FeatureSet,
        label: Label | None,
        cuts: CutsSpec,
        *,
        plan: TrackingPlan,
        codes: Codes,
        population: Condition,
        blind_spot: int = 0,
    ) -> Self:
        """Rows of every person in the population at every cut, with consent to model training as of today.

        Args:
            log: The event log, or all of its histories under a schema that holds what is needed.
            features: What is known of a row.
            label: What is asked; None for clusters.
            cuts: When.
            plan: Declares the events that label and population name.
            codes: Their codes.
            population: Who; an event known by `at` is needed in any case.
            blind_spot: How late an event may become known: an outcome counts if known by at + H + blind_spot.

        Raises:
            StudyError: the log is too short, or nobody is left.
        """
        log = _Held(log) if isinstance(log, Histories) else log
        zone, horizon = features.schema.zone, label.horizon if label else 0
        resolved = cuts.resolve(log.span(), horizon=horizon, blind_spot=blind_spot)
        sources = [population.feature_set(plan, codes, zone=zone)]
        sources += [label.feature_set(plan, codes, zone=zone)] if label else []
        builder = _Builder(features, label, [Outcome(each) for each in sources], resolved, blind_spot)
        schema = wide(features.schema, *(each.schema for each in sources))
        pieces = [builder.piece(histories) for histories in log.histories_by_bucket(schema)]
        return cls._joined(pieces, builder, population, log.span())

    @classmethod
    def _joined(cls, pieces: list["_Piece"], builder: "_Builder", population: Condition, span: tuple[int, int]) -> Self:
        rows = sum(len(piece.matrix) for piece in pieces)
        refused = sum(piece.n_refused for piece in pieces)
        if not rows:
            raise StudyError(
                f"nobody is in the population ({population}) at any cut; {refused} persons gave no consent to model "
                "training. Hint: a longer `within`, or other cuts."
            )
        matrix = concat([piece.matrix for piece in pieces])
        y = np.concatenate([piece.y for piece in pieces]) if builder.label else None
        parts = np.concatenate([piece.parts for piece in pieces])
        provenance = {
            "cuts": builder.cuts.to_dict(),
            "log": [iso(instant) for instant in span],
            "label": str(builder.label) if builder.label else None,
            "horizon": format_duration(builder.label.horizon) if builder.label else None,
            "population": str(population),
            "blind_spot": format_duration(builder.blind_spot) if builder.blind_spot else "0s",
            "known": "features: events known by `at`; label: events known by `at` + horizon + blind spot",
            "consent": "model_training, as of the run",
            "n_rows": rows,
            "n_users": len(set(matrix.users.tolist())),
            "n_users_without_consent": refused,
            "features": matrix.fingerprint,
        }
        made = cls(matrix, y, parts, provenance)
        return replace(made, provenance={**provenance, "data": made.fingerprint})

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over users, instants, parts, values and labels."""
        total = sha256()
        for array in (self.matrix.at, self.parts, self.matrix.values, self.y):
            if array is not None:
                total.update(np.ascontiguousarray(array).tobytes())
        total.update("\0".join(self.matrix.users.tolist()).encode())
        return total.hexdigest()[:16]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "TrainingSet":
        """These rows."""
        y = None if self.y is None else self.y[rows]
        return replace(self, matrix=self.matrix.take(rows), y=y, parts=self.parts[rows])

    def split_by_time(self) -> tuple["TrainingSet", "TrainingSet", "TrainingSet"]:
        """The rows of the train cuts, of the validation cut and of the test cut."""
        train, validation, test = (self.take(self.parts == part) for part in (TRAIN, VALIDATION, TEST))
        return train, validation, test

    def to_pandas(self) -> "pd.DataFrame":
        """Columns user, at, part, the features, and label where there is one."""
        frame = self.matrix.to_pandas()
        frame.insert(2, "part", np.array(PARTS, dtype=object)[self.parts])
        return frame if self.y is None else frame.assign(label=self.y)

    def __str__(self) -> str:
        cuts = self.provenance["cuts"]
        counts = ", ".join(f"{name} {int((self.parts == part).sum()):,}" for part, name in enumerate(PARTS))
        lines = [
            f"{len(self):,} rows of {self.provenance['n_users']:,} users ({counts}), {len(self.matrix.names)} features"
        ]
        lines += [f"  label: {self.provenance['label']}"] if self.y is not None else []
        lines += [f"  population: {self.provenance['population']}, consent: {self.provenance['consent']}"]
        if isinstance(cuts, dict):
            lines += [f"  {name} cuts: {', '.join(when)}" for name, when in cuts.items() if when]
        lines += [f"  known: {self.provenance['known']} ({self.provenance['blind_spot']})"]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Piece:
    matrix: FeatureMatrix
    y: NDArray[np.float64]
    parts: NDArray[np.int8]
    n_refused: int


@dataclass(frozen=True)
class _Builder:
    """What is the same for every bucket: the population's outcome, then the label's."""

    features: FeatureSet
    label: Label | None
    outcomes: list[Outcome]
    cuts: Cuts
    blind_spot: int

    def piece(self, histories: Histories) -> _Piece:
        """The rows of one bucket's persons."""
        allowed = (histories.consent() & Purpose.MODEL_TRAINING.bit) != 0
        rows, at, parts = self._rows(histories.take(np.flatnonzero(allowed)))
        mine = histories.take(np.flatnonzero(allowed)).take(rows)
        matrix = self.features.compute(narrowed(mine, self.features.schema), at)
        y = np.zeros(len(rows))
        if self.label is not None:
            numbers = self.outcomes[1].numbers(mine, at + self.label.horizon, blind_spot=self.blind_spot)
            y = self.label.outcome(numbers)
        return _Piece(matrix, y, self._by_person(mine, parts), int((~allowed).sum()))

    def _rows(self, histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
        rows, at, parts = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int8)]
        for instant, part in self.cuts.all:
            counts = self.outcomes[0].numbers(histories, np.full(len(histories), instant, np.int64))
            found = np.flatnonzero(counts > 0)
            rows.append(found)
            at.append(np.full(len(found), instant, np.int64))
            parts.append(np.full(len(found), part, np.int8))
        return np.concatenate(rows), np.concatenate(at), np.concatenate(parts)

    def _by_person(self, histories: Histories, parts: NDArray[np.int8]) -> NDArray[np.int8]:
        if self.cuts.validation or not self.cuts.test:
            return parts
        # All rows of a person fall on one side, on every machine and in every run.
        draw = np.array([hash_text("validation" + user) % 1000 for user in histories.users], np.int64)
        return np.where((parts == TRAIN) & (draw < SHARE * 1000), VALIDATION, parts).astype(np.int8)


@dataclass(frozen=True)
class _Held:
    """Histories that are in memory already, as a log."""

    histories: Histories

    def span(self) -> tuple[int, int]:
        if not len(self.histories.slots):
            raise StudyError("there are no events. Hint: `ethogram ingest FILE`.")
        return int(self.histories.slots[:, TS].min()), int(self.histories.slots[:, TS].max())

    def histories_by_bucket(self, schema: StateSchema) -> Iterator[Histories]:
        yield narrowed(self.histories, schema)


def wide(schema: StateSchema, *others: StateSchema) -> StateSchema:
    """A schema to read with: the properties of all, everything else as in the first."""
    specs = {
        name: (kind, factor)
        for each in (schema, *others)
        for name, kind, factor in zip(each.properties, each.kinds, each.factors, strict=True)
    }
    names = tuple(sorted(specs))
    if names == schema.properties:
        return schema
    kinds, factors = zip(*(specs[name] for name in names), strict=True)
    return replace(schema, properties=names, kinds=tuple(kinds), factors=tuple(factors))


def concat(matrices: list[FeatureMatrix]) -> FeatureMatrix:
    """Matrices of one feature set, one below the other."""
    if len(matrices) == 1:
        return matrices[0]
    first = matrices[0]
    values, users, at, capped = (
        np.concatenate([getattr(each, name) for each in matrices]) for name in ("values", "users", "at", "capped")
    )
    return FeatureMatrix(values, users, at, first.names, first.fingerprint, capped)
