"""Glance: what an answer needs of people's states in one compiled call: the instant, what was agreed to, what follows.

Between two requests others use the processor's caches, so that each step of Python, and of numpy even more, costs three
to four times what it costs when it is repeated. One call touches the loops and what they read, and nothing else.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import (
    Floats,
    Ints,
    compiled,
    compiled_inside,
    grid,
    plane,
    reals,
    shorts,
    shorts_grid,
    singles,
    singles_grid,
    table_of,
    vector,
    views,
)
from features.behaviour.histories import Histories, carries_of, edges_of
from features.behaviour.kernel import run
from features.events.plan import Purpose
from serving.fingerprint import AS_OF, CONSENT, see
from serving.state import State
from training.assigner import Centroids, confidence_of, distances_to
from training.bundle import Bundle
from training.calibration import between, logistic
from training.model import Model, Scores
from training.stages import columnwise
from training.trees import Forest, walk

AGREED = Purpose.PERSONALISATION.bit

PLACES, GIVEN, PREPARED, KINDS, FIRST, SECOND, HEAD = range(7)
X, MARGINS, WIDE, CHANCE, NUMBERS, XS, YS, BASE, ROOTS, DEPTHS, OUTPUT, NODES, WEIGHTS = range(HEAD, HEAD + 13)
FAR, SURE, CENTRES, OWNERS = range(HEAD, HEAD + 4)
"""Where a study's arrays are, counted from its first; what follows `HEAD` is that of trees, or of points."""


class Reading(NamedTuple):
    """How one study's scores are read off the figures of a row.

    Attributes:
        model: The study's.
        columns: Which of the bundle's columns it takes.
        at: Its first figure: the probability; or the class, then the probabilities; or the cluster, how surely, and the
            distances.
        width: How many there are.
        plain: Whether the loop scores it; another kind of model is asked by itself.
    """

    model: Model
    columns: Ints
    at: int
    width: int
    plain: bool

    def scores(self, figures: Floats) -> Scores:
        """What the figures of rows say, without margins."""
        model, mine = self.model, figures[:, self.at : self.at + self.width]
        study, kind, names = model.study, model.kind, model.names
        if kind == "propensity":
            return Scores(study, kind, mine[:, 0].copy(), model.threshold)
        place = mine[:, 0].astype(np.int64)
        if kind == "clusters":
            sure, far = mine[:, 1], mine[:, 2:]
            return Scores(study, kind, cluster=place, confidence=sure, distances=far, names=names, ids=model.ids)
        chances = mine[:, 1:]
        sure = chances[np.arange(len(place)), place]
        return Scores(study, kind, cluster=place, confidence=sure, probabilities=chances, names=names)

    def figures(self, scores: Scores) -> Floats:
        """What the model says as figures, shape (n_rows, width)."""
        parts = (
            (scores.probability,)
            if scores.probability is not None
            else (scores.cluster, scores.probabilities)
            if scores.probabilities is not None
            else (scores.cluster, scores.confidence, scores.distances)
        )
        return np.column_stack([np.asarray(part, np.float64) for part in parts])


class Sight(NamedTuple):
    """What was seen of rows; of those who have not agreed, `told` and `at` alone mean something.

    What is seen next in the same thread is written over `at`, `capped` and `figures`.

    Attributes:
        told: Per row as `fingerprint.seen` tells it.
        at: Shape (n_rows,): as of when.
        values: Shape (n_rows, n_features).
        capped: Shape (n_rows,).
        figures: Shape (n_rows, n_figures): see `Reading`.
    """

    told: list[list[int]]
    at: Ints
    values: Floats
    capped: NDArray[np.bool_]
    figures: Floats


class Desk(NamedTuple):
    """What one call reads and writes in a thread; making it anew for every row would cost as much as the call.

    Attributes:
        plan: As everything, what `look` takes under this name.
    """

    plan: Ints
    arrays: Ints
    told: Ints
    instants: Ints
    values: Floats
    capped: NDArray[np.bool_]
    figures: Floats


class Glance:
    """The compiled call for one bundle; may be made from many threads at once.

    Attributes:
        readings: Of every study, by its name.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.features = bundle.computed
        self.kernel = bundle.computed.kernel
        self.readings: dict[str, Reading] = {}
        names, at = bundle.features.names, 0
        for study, model in sorted(bundle.models.items()):
            columns = np.array([names.index(name) for name in model.preparation.names], np.int64)
            width = 1 if model.kind == "propensity" else len(model.names) + (2 if model.kind == "clusters" else 1)
            plain = not self.kernel.extension and _is_plain(model)
            self.readings[study] = Reading(model, columns, at, width, plain)
            at += width
        schema = bundle.schema
        self._n_figures = at
        self._settings = np.array(
            [schema.n_slots, schema.horizon, schema.consent, bool(self.kernel.extension), False], np.int64
        )
        self._bent = [each for each in self.readings.values() if not each.plain]
        self._local = threading.local()

    def __call__(self, states: Sequence[State], at: int | Ints, ahead: int) -> Sight:
        """Everything of these states, one a row; `at`, one or one a row, and `ahead` as `fingerprint.seen` has them."""
        kernel, schema = self.kernel, self.features.schema
        users, records = [state.user for state in states], [state.records for state in states]
        edges, carries = edges_of(schema, users, records), [state.carry for state in states]
        carry = carries_of(schema, carries) if any(carries) else kernel.no_carry
        program, room = kernel.program, kernel.room(max(map(len, records)) // (8 * schema.n_slots))
        slots = np.frombuffer(b"".join(records), np.int64)
        plan, arrays, told, instants, values, capped, figures = self._desk(len(states))
        instants[:] = at
        look(
            slots, edges, carry, ahead, self._settings, program.arrays, program.numbers, room, plan, arrays, told,
            instants, values, capped, figures,
        )  # fmt: skip
        if carry is not kernel.no_carry:
            self.features.check_carry(users, carry, instants)
        if kernel.extension:
            histories = Histories.from_states(schema, users, records, carries)
            values, capped = kernel.compute(histories, instants, threads=1)
        values = values[:, : len(self.features.names)].copy()
        for each in self._bent:
            scores = each.model.score_values(values.take(each.columns, axis=1))
            figures[:, each.at : each.at + each.width] = each.figures(scores)
        return Sight(told.tolist(), instants, values, capped, figures)

    def _desk(self, n: int) -> Desk:
        """This thread's own, for so many rows."""
        desk: Desk | None = getattr(self._local, "desk", None)
        if desk is None or len(desk.told) != n:
            rows, arrays = [], list[NDArray[Any]]()
            for each in self.readings.values():
                if each.plain:
                    rows.append((isinstance(each.model.head, Forest), len(arrays), each.at))
                    arrays += _arrays(each)
            self._local.alive = arrays
            desk = self._local.desk = Desk(
                np.array(rows, np.int64).reshape(-1, 3), views(arrays), np.empty((n, 6), np.int64),
                np.empty(n, np.int64), np.empty((n, self.kernel.n_features)), np.empty(n, np.bool_),
                np.empty((n, self._n_figures)),
            )  # fmt: skip
        return desk


def _is_plain(model: Model) -> bool:
    """Whether the loop scores a model: trees of one margin, or points, behind steps that change each column alone."""
    head = model.head
    known = isinstance(head, Centroids) or (isinstance(head, Forest) and len(head.base) == 1)
    return known and model.preparation.columns is not None


def _arrays(reading: Reading) -> list[NDArray[Any]]:
    """What the loop reads and writes for one study, in the order of `PLACES` and what follows it."""
    model, steps, n = reading.model, reading.model.preparation.columns, len(reading.columns)
    if steps is None:
        raise TypeError(f"{model.study!r} is not plain.")
    found = [reading.columns, np.empty((1, n)), np.empty((1, n)), steps.kinds, steps.first, steps.second]
    head, known = model.head, model.calibration
    if isinstance(head, Forest):
        found += [np.empty((1, n), np.float32), np.empty((1, 1), np.float32), np.empty(1), np.empty(1)]
        found += [np.array([known.slope, known.intercept]), *known.points]
        return [*found, head.base, head.roots, head.depths, head.output, *head.packed]
    return [*found, np.empty((1, len(head))), np.empty(1), *head.points]  # type: ignore[attr-defined] # points


@compiled
def look(
    records: Ints, edges: Ints, carry: Ints, ahead: int, settings: Ints, program: Ints, numbers: Ints,
    room: Ints, plan: Ints, arrays: Ints, told: Ints, instants: Ints, values: Floats, capped: NDArray[np.bool_],
    figures: Floats,
) -> None:  # fmt: skip
    """Row by row; of who has not agreed nothing is computed.

    Args:
        records: Of all rows, joined.
        edges: Shape (n_rows + 1,): where each row's begin.
        carry: Shape (n_rows, ...), or of one row that holds for all.
        ahead: As `fingerprint.seen` takes it.
        settings: Slots of a record, horizon, consent by default, whether features are computed elsewhere, whether
            records are settled, which they are not: said in the call, numba would compile `run` for it again.
        program: `kernel.Program`'s arrays.
        numbers: Its numbers.
        room: Scratch of the kernel.
        plan: Shape (n_studies, 3): whether trees, the first array, the first figure.
        arrays: The studies'.
        told: To be filled, as everything behind it: see `Sight`.
        instants: Shape (n_rows,): what `fingerprint.seen` takes as `at` before, as of when after.
        values: Shape (n_rows, n_features).
        capped: Shape (n_rows,).
        figures: Shape (n_rows, n_figures).
    """
    slots, starts, ends = table_of(records, settings[0]), edges[:-1], edges[1:]
    see(slots, starts, ends, instants, ahead, settings[1], settings[2], told)
    settled = settings[4] != 0
    for row in range(len(starts)):
        instants[row], capped[row] = told[row, AS_OF], False
        if not told[row, CONSENT] & AGREED or settings[3]:
            continue
        run(slots, starts, ends, carry, instants, settled, row, row + 1, program, numbers, room, values, capped)
        for study in range(len(plan)):
            _prepare(values, row, plan[study, 1], arrays)
            if plan[study, 0]:
                figures[row, plan[study, 2]] = _chance(plan[study, 1], arrays)
            else:
                _nearest(plan[study, 1], arrays, figures, row, plan[study, 2])


@compiled_inside
def _prepare(values: Floats, row: int, first: int, arrays: Ints) -> None:
    places, given = vector(arrays, first + PLACES), plane(arrays, first + GIVEN)
    for column in range(len(places)):
        given[0, column] = values[row, places[column]]
    kinds, one, other = grid(arrays, first + KINDS), plane(arrays, first + FIRST), plane(arrays, first + SECOND)
    columnwise(given, kinds, one, other, plane(arrays, first + PREPARED))


@compiled_inside
def _chance(first: int, arrays: Ints) -> float:
    """A propensity, as `Model.score_values` says it."""
    prepared, x = plane(arrays, first + PREPARED), singles_grid(arrays, first + X)
    margins, nodes = singles_grid(arrays, first + MARGINS), shorts_grid(arrays, first + NODES)
    for column in range(prepared.shape[1]):
        x[0, column] = np.float32(prepared[0, column])
    walk(
        x, singles(arrays, first + BASE), shorts(arrays, first + ROOTS), shorts(arrays, first + DEPTHS),
        shorts(arrays, first + OUTPUT), nodes, singles_grid(arrays, first + WEIGHTS), margins,
    )  # fmt: skip
    wide, chance, xs = reals(arrays, first + WIDE), reals(arrays, first + CHANCE), reals(arrays, first + XS)
    wide[0] = margins[0, 0]
    if len(xs):
        between(wide, xs, reals(arrays, first + YS), chance)
    else:
        line = reals(arrays, first + NUMBERS)
        logistic(wide, line[0], line[1], chance)
    return float(chance[0])


@compiled_inside
def _nearest(first: int, arrays: Ints, figures: Floats, row: int, to: int) -> None:
    """Cluster, how surely, and the distances."""
    far, sure = plane(arrays, first + FAR), reals(arrays, first + SURE)
    distances_to(plane(arrays, first + PREPARED), plane(arrays, first + CENTRES), vector(arrays, first + OWNERS), far)
    confidence_of(far, sure)
    place = 0
    for cluster in range(far.shape[1]):
        figures[row, to + 2 + cluster] = far[0, cluster]
        if far[0, cluster] < far[0, place]:
            place = cluster
    figures[row, to], figures[row, to + 1] = place, sure[0]
