"""Training set: rows (user, at) with features as known at `at` and the label of what came after."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import TS, StateSchema
from features.errors import StudyError
from features.events.log import EventLog
from features.events.plan import Codes, Purpose, TrackingPlan
from features.events.rows import Rows
from features.instants import format_duration, iso
from features.people import hash_text
from training.anchors import Anchors
from training.cuts import Cuts, CutsSpec
from training.label import Condition, Label
from training.outcome import Outcome, Source, narrowed
from training.parts import EMBARGO, INCOMPLETE, PARTS, TEST, TRAIN, VALIDATION, Candidates

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.2
"""Share of persons that choose and calibrate where there are too few cuts for a validation cut."""

EVERYBODY = "one per person and cut"
KNOWN = "features: events known by `at`; label: events known by `at` + horizon + blind spot"

LEFT_OUT = {
    "population": "not in the population",
    "incomplete": "whose label is not complete yet",
    "embargo": "whose label would reach into the next part",
}
"""Why candidates are no rows."""


Compute = Callable[[FeatureSet, Histories, NDArray[np.int64]], FeatureMatrix]


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
        y: Shape (n_rows,), the label, 0 or 1 or a place in `classes`; None where nothing is predicted.
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
        cuts: CutsSpec | Cuts | Anchors,
        *,
        plan: TrackingPlan,
        codes: Codes,
        population: Condition,
        blind_spot: int = 0,
        asked: Source | None = None,
    ) -> Self:
        """Rows of every person in the population at every cut, with consent to model training as of today.

        A person may be in several rows, each as of its own instant. Rows whose label is not complete, or would reach
        into the next part, are left out and counted.

        Args:
            log: The event log, or all of its histories under a schema that holds what is needed.
            features: What is known of a row.
            label: What is asked; None for clusters.
            cuts: When, or the instants themselves.
            plan: Declares the events that label and population name.
            codes: Their codes.
            population: Who; an event known by `at` is needed in any case.
            blind_spot: How late an event may become known: an outcome counts if known by at + H + blind_spot.
            asked: What answers a label that asks clusters or segments.

        Raises:
            StudyError: the log is too short, or nobody is left.
        """
        log = _Held(log) if isinstance(log, Histories) else log
        zone, horizon = features.schema.zone, label.horizon if label else 0
        keep = f"{label} {population} {cuts!r}"
        if isinstance(cuts, CutsSpec):
            cuts = cuts.resolve(log.span(), horizon=horizon, blind_spot=blind_spot)
        who = population.source(plan, codes, zone=zone)
        known = Condition(did="any").source(plan, codes, zone=zone)
        source = label.source(plan, codes, zone=zone, asked=asked) if label else None
        schema = wide(features.schema, *(each.schema for each in (who, known, source) if each))
        builder = _Builder(features, label, source, who, known, cuts, blind_spot, schema, keep)
        if isinstance(log, EventLog):
            pieces = list(log.map(builder))
        else:
            pieces = [builder.piece(histories, FeatureSet.compute) for histories in log.histories_by_bucket(schema)]
        told = KNOWN + ("".join(_assumed(log)) if isinstance(log, EventLog) else "")
        return cls._joined(pieces, builder, population, log.span(), told)

    @classmethod
    def _joined(
        cls,
        pieces: list["_Piece"],
        builder: "_Builder",
        population: Condition,
        span: tuple[int, int],
        known: str,
    ) -> Self:
        rows = sum(len(piece.matrix) for piece in pieces)
        refused = sum(piece.n_refused for piece in pieces)
        if not rows:
            raise StudyError(
                f"nobody is in the population ({population}) at any cut; {refused} persons gave no consent to model "
                "training. Hint: a longer `within`, or other cuts."
            )
        matrix = concat([piece.matrix for piece in pieces])
        parts = np.concatenate([piece.parts for piece in pieces])
        y, limit = builder.labelled(np.concatenate([piece.numbers for piece in pieces]), parts)
        left_out = sum((piece.left_out for piece in pieces), Counter[str]())
        provenance = {
            "rows": f"one per {builder.cuts.event}" if isinstance(builder.cuts, Anchors) else EVERYBODY,
            "cuts": builder.cuts.to_dict(),
            "log": [iso(instant) for instant in span],
            "label": builder.question(limit),
            "limit": limit,
            "classes": list(builder.label.classes(builder.source)) if builder.label and builder.source else [],
            "horizon": format_duration(builder.label.horizon) if builder.label else None,
            "population": str(population),
            "blind_spot": format_duration(builder.blind_spot),
            "known": known,
            "consent": "model_training, as of the run",
            "n_rows": rows,
            "n_users": len(set(matrix.users.tolist())),
            "n_users_without_consent": refused,
            "left_out": {name: left_out[name] for name in LEFT_OUT},
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
                total.update(np.ascontiguousarray(array).data)  # not a copy: it may be most of the memory
        total.update("\0".join(self.matrix.users.tolist()).encode())
        return total.hexdigest()[:16]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "TrainingSet":
        """These rows."""
        y = None if self.y is None else self.y[rows]
        return replace(self, matrix=self.matrix.take(rows), y=y, parts=self.parts[rows])

    @property
    def classes(self) -> tuple[str, ...]:
        """What the label may be, where it is more than yes or no."""
        said = self.provenance.get("classes", ())
        return tuple(said) if isinstance(said, list | tuple) else ()

    def split_by_time(self) -> tuple["TrainingSet", "TrainingSet", "TrainingSet"]:
        """The rows of the train cuts, of the validation cut and of the test cut; taken apart once."""
        return self._apart

    @cached_property
    def _apart(self) -> tuple["TrainingSet", "TrainingSet", "TrainingSet"]:
        train, validation, test = (self.take(self.parts == part) for part in (TRAIN, VALIDATION, TEST))
        return train, validation, test

    def to_pandas(self) -> "pd.DataFrame":
        """Columns user, at, part, the features, and label where there is one."""
        frame = self.matrix.to_pandas()
        frame.insert(2, "part", np.array(PARTS, dtype=object)[self.parts])
        return frame if self.y is None else frame.assign(label=self.y)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {int((self.parts == part).sum()):,}" for part, name in enumerate(PARTS))
        said = self.provenance
        if isinstance(told := said.get("told"), list):
            return "\n".join(told)
        lines = [f"{len(self):,} rows of {said['n_users']:,} users ({counts}), {len(self.matrix.names)} features"]
        lines += [f"  label: {said['label']}"] if self.y is not None else []
        lines += [f"  population: {said['population']}, consent: {said['consent']}", *self._told()]
        return "\n".join([*lines, f"  known: {said['known']} ({said['blind_spot']})"])

    def _told(self) -> Iterator[str]:
        """When, and what is missing."""
        cuts, left_out = self.provenance["cuts"], self.provenance["left_out"]
        anchored = self.provenance["rows"] != EVERYBODY
        if anchored:
            yield f"  rows: {self.provenance['rows']}, as of the instant at which it was known"
        for name, when in cuts.items() if isinstance(cuts, dict) else ():
            if when:
                yield f"  {name}: {' to '.join(when)}" if anchored else f"  {name} cuts: {', '.join(when)}"
        if isinstance(left_out, dict) and any(left_out.values()):
            told = [f"{left_out[name]:,} {words}" for name, words in LEFT_OUT.items() if left_out[name]]
            yield f"  left out: {', '.join(told)}"


@dataclass(frozen=True)
class _Piece:
    matrix: FeatureMatrix
    numbers: NDArray[np.float64]
    parts: NDArray[np.int8]
    n_refused: int
    left_out: Counter[str]


@dataclass(frozen=True)
class _Builder:
    """What is the same for every bucket."""

    features: FeatureSet
    label: Label | None
    source: Source | None
    population: Outcome
    known: Outcome
    cuts: Cuts | Anchors
    blind_spot: int
    schema: StateSchema
    keep: str

    def __call__(self, rows: Rows) -> _Piece:
        """The rows of one bucket of the log; features of persons who have not changed are those of the last time."""
        return self.piece(rows.histories(self.schema), partial(rows.compute, keep=self.keep))

    def piece(self, histories: Histories, compute: Compute) -> _Piece:
        """The rows of some persons."""
        allowed = (histories.consent() & Purpose.MODEL_TRAINING.bit) != 0
        willing = histories.take(np.flatnonzero(allowed))
        found, left_out = self._eligible(willing)
        mine = willing.take(found.rows)
        matrix = compute(self.features, narrowed(mine, self.features.schema), found.at)
        numbers = np.zeros(len(found.rows))
        if self.label is not None and self.source is not None:
            numbers = self.source.numbers(mine, found.at + self.label.horizon, blind_spot=self.blind_spot)
        return _Piece(matrix, numbers, self._by_person(mine, found.parts), int((~allowed).sum()), left_out)

    def _eligible(self, histories: Histories) -> tuple[Candidates, Counter[str]]:
        """The candidates that become rows, and how many of the others there are for which reason."""
        kept: list[Candidates] = []
        left_out: Counter[str] = Counter()
        for each in self.cuts.candidates(histories):
            asked = histories.take(each.rows)
            inside = self.population.numbers(asked, each.at) > 0
            used = each.parts >= 0
            kept.append(each.take(inside & used))
            left_out["incomplete"] += int((inside & (each.parts == INCOMPLETE)).sum())
            left_out["embargo"] += int((inside & (each.parts == EMBARGO)).sum())
            outside = np.flatnonzero(used & ~inside)
            left_out["population"] += int((self.known.numbers(asked.take(outside), each.at[outside]) > 0).sum())
        return Candidates.joined(kept), left_out

    def _by_person(self, histories: Histories, parts: NDArray[np.int8]) -> NDArray[np.int8]:
        if self.cuts.chooses_by_time:
            return parts
        # All rows of a person fall on one side, on every machine and in every run.
        draw = np.array([hash_text("validation" + user) % 1000 for user in histories.users], np.int64)
        return np.where((parts == TRAIN) & (draw < SHARE * 1000), VALIDATION, parts).astype(np.int8)

    def labelled(
        self, numbers: NDArray[np.float64], parts: NDArray[np.int8]
    ) -> tuple[NDArray[np.float64] | None, float | None]:
        """The labels, and what they are compared with: learned from the training rows alone."""
        if self.label is None:
            return None, None
        limit = self.label.limit(numbers[parts == TRAIN])
        return self.label.outcome(numbers, limit), limit

    def question(self, limit: float | None) -> str | None:
        """The label in words, with what was learned for it and the model that it asks."""
        if self.label is None:
            return None
        asked = f" ({self.source.told})" if self.source is not None and self.source.told else ""
        return f"{self.label}{asked}" + (f" (above {limit:g})" if self.label.top_share is not None else "")


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


def _assumed(log: EventLog) -> Iterator[str]:
    for after, files in sorted(log.assumed().items()):
        told = f"{format_duration(after)} after they happened" if after else "when they happened"
        yield f"; {files:,} {'files tell' if files > 1 else 'file tells'} no arrivals: events are taken as known {told}"


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
