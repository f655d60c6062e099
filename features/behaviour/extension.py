"""Extension: features that a project writes in Python, in definitions.py; slower, under the same rules."""

import ast
import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Floats, Ints
from features.behaviour.feature import Feature
from features.behaviour.gather import counting
from features.behaviour.histories import Histories
from features.behaviour.kinds import Kind
from features.behaviour.lifetime import boundary_of
from features.behaviour.schema import CODE_MASK, HEAD, MISSING, TS, StateSchema
from features.behaviour.table import Family
from features.behaviour.words import Words
from features.errors import DefinitionError, nearest
from features.events.plan import CONTEXT, PropertySpec, TrackingPlan
from features.instants import iso, parse_duration
from features.people import hash_text

FILE = "definitions.py"
IMPORTS = (sys.stdlib_module_names - {"importlib", "runpy", "imp"}) | {"numpy", "features"}
"""What its code may import: it travels in bundles to where nothing else is installed."""


@dataclass(frozen=True)
class Columns:
    """One user's events that count as of an instant, oldest first: what a function is given.

    Attributes:
        event: Shape (n_events,), their names.
        ts: Shape (n_events,), microseconds UTC.
        properties: Per declared property, shape (n_events,). Numbers, money and times are in the plan's unit and flags
            are 0 and 1, NaN where not said; texts are None where not said, and `#` and digits that stand for
            the text where it is neither in the plan's `allowed` nor among the feature's `values`.
    """

    event: NDArray[np.object_]
    ts: NDArray[np.int64]
    properties: Mapping[str, NDArray[np.float64] | NDArray[np.object_]]

    def __getitem__(self, name: str) -> NDArray[np.float64] | NDArray[np.object_]:
        if name not in self.properties:
            raise DefinitionError(f"the property {name!r} is not declared. {nearest(name, self.properties)}")
        return self.properties[name]

    def __len__(self) -> int:
        return len(self.ts)


Function = Callable[[Columns, int], object]


@dataclass(frozen=True)
class Written:
    """A function of definitions.py, and what its decorator says; called, it is the function."""

    function: Function
    windows: tuple[str, ...]
    events: tuple[str, ...]
    properties: tuple[str, ...]
    values: tuple[str, ...]

    def __call__(self, user: Columns, at: int) -> object:
        """The feature of one user as of `at`."""
        return self.function(user, at)

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.function.__name__)

    @property
    def where(self) -> str:
        """Where it stands."""
        return f"{FILE}:{self.function.__code__.co_firstlineno}"


def feature(
    *,
    windows: str | Sequence[str],
    events: str | Sequence[str] = "any",
    properties: str | Sequence[str] = (),
    values: str | Sequence[str] = (),
) -> Callable[[Function], Written]:
    """Make a feature a window of a function of (columns, at) that gives a number, or None where there is none.

    Args:
        windows: How far back it looks, such as 30d; it is given no other events.
        events: Which events of the plan it is given.
        properties: Which of their properties it reads.
        values: Texts of categories that it tells apart, beside those that the plan allows.
    """
    said = [(each,) if isinstance(each, str) else tuple(each) for each in (windows, events, properties, values)]
    return lambda function: Written(function, *said)


@cache
def written(source: str) -> Mapping[str, Written]:
    """The features of a definitions.py, by the function's name.

    Raises:
        DefinitionError: it cannot be run, or imports what a service does not have.
    """
    try:
        tree = ast.parse(source, FILE)
    except SyntaxError as error:
        raise DefinitionError(f"{FILE}:{error.lineno}: {error.msg}") from None
    for line, name in _imported(tree):
        if name.partition(".")[0] not in IMPORTS:
            raise DefinitionError(
                f"{FILE}:{line}: {name!r} may not be imported: a service has Python's own modules and numpy. "
                "Hint: compute it with these, or bring it as a property of the events."
            )
    names: dict[str, object] = {"__name__": "definitions", "__builtins__": builtins}
    try:
        exec(compile(tree, FILE, "exec"), names)  # noqa: S102 - the project's own code, which a bundle's digest covers
    except Exception as error:  # noqa: BLE001 - whatever its owner wrote
        raise _fault(error, "as the file was read") from None
    return {each.name: each for each in names.values() if isinstance(each, Written)}


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Name) and node.id == "__import__":
            yield node.lineno, node.id


def _fault(error: BaseException, when: str) -> DefinitionError:
    """What went wrong in the owner's code; what an exception says may hold a user's data, so its name has to do."""
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    told = str(error) if isinstance(error, DefinitionError) else type(error).__name__
    return DefinitionError(f"{FILE}{line}: {told} ({when})")


def declared(source: str, plan: TrackingPlan) -> Iterator[Feature]:
    """The features of a definitions.py: `<function>_<window>`.

    Raises:
        DefinitionError: a window, an event or a property is unknown; the line is named.
    """
    for each in written(source).values():
        try:
            kind = Words(plan).kind(each.events)
            specs = [_spec(name, kind, plan) for name in each.properties]
            windows = {text: parse_duration(text) for text in each.windows}
        except DefinitionError as error:
            raise DefinitionError(f"{each.where}: {each.name}: {error}") from None
        values = dict.fromkeys([*each.values, *(text for spec in specs for text in spec.allowed or ())])
        said = (each.function.__doc__ or each.name).strip().splitlines()[0].rstrip(".")
        for text, window in windows.items():
            yield Feature(
                f"{each.name}_{text}",
                FAMILY.name,
                "python",
                ", ".join(each.events),
                kind,
                window=window,
                said=said,
                values=tuple(values),
                properties=each.properties,
                code=source,
            )


def _spec(name: str, kind: Kind, plan: TrackingPlan) -> PropertySpec:
    """The declaration of a property that some event of the kind carries."""
    carried = {**CONTEXT}
    for event in kind.events or plan.specs:
        carried |= plan.specs[event].properties
    if name not in carried:
        raise DefinitionError(
            f"unknown property {name!r} of {', '.join(kind.events) or 'any'}. {nearest(name, carried)}"
        )
    return carried[name]


class Extension:
    """The functions behind some of a set's features; like the loops, they see what `gather` lets through."""

    def __init__(self, features: Sequence[Feature], schema: StateSchema) -> None:
        self.schema = schema
        self._kinds = dict(zip(schema.properties, schema.kinds, strict=True))
        self._asked = [
            (column, each, written(each.code)[each.name.rpartition("_")[0]])
            for column, each in enumerate(features)
            if each.family == FAMILY.name
        ]
        self._texts = {each.values: {hash_text(str(text)): text for text in each.values} for _, each, _ in self._asked}
        codes = np.arange(schema.n_codes)
        self._meant = {each.kind: np.isin(codes, each.kind.codes(schema)) for _, each, _ in self._asked}
        self._events = np.empty(schema.n_codes, np.object_)
        for event, code in schema.codes.items():
            self._events[code] = event

    def __bool__(self) -> bool:
        return bool(self._asked)

    def fill(self, histories: Histories, at: Ints, carry: Ints, scratch: Ints, values: Floats) -> None:
        """The functions' columns of every row of `values`; the arguments are those of `kernel.run`."""
        bounds, horizon = self.schema.code_bounds, self.schema.horizon
        found = np.empty(int((histories.ends - histories.starts).max(initial=0)), np.int64)
        for row, (start, end, instant) in enumerate(zip(histories.starts, histories.ends, at, strict=True)):
            now, floor = int(instant), carry[row if len(carry) > 1 else 0, 0]
            n = counting(
                histories.slots, start, end, histories.settled, now, floor, boundary_of(now, horizon), bounds, scratch,
                found,
            )  # fmt: skip
            records = histories.slots[found[:n]]
            for column, asked, function in self._asked:
                values[row, column] = _called(function, self._columns(records, asked, now), now)

    def _columns(self, records: Ints, asked: Feature, at: int) -> Columns:
        codes = records[:, HEAD] & CODE_MASK
        within = records[:, TS] > at - asked.window
        if asked.kind.events:
            within &= self._meant[asked.kind][codes]
        mine = records[within]
        properties = {name: self._property(mine[:, self.schema.slot(name)], name, asked) for name in asked.properties}
        return Columns(self._events[codes[within]], mine[:, TS], properties)

    def _property(self, slots: Ints, name: str, asked: Feature) -> NDArray[np.float64] | NDArray[np.object_]:
        if self._kinds[name] not in ("category", "text"):
            return np.where(slots == MISSING, np.nan, slots / self.schema.factor(name))
        known = self._texts[asked.values]
        texts = [None if each == MISSING else known.get(each) or f"#{each & _BITS:016x}" for each in slots.tolist()]
        column = np.empty(len(texts), np.object_)
        column[:] = texts
        return column


_BITS = (1 << 64) - 1


def _called(function: Written, user: Columns, at: int) -> float:
    try:
        value = function(user, at)
    except Exception as error:  # noqa: BLE001 - whatever its owner wrote
        raise _fault(error, f"{function.name} of {len(user)} events, as of {iso(at)}") from None
    if value is None or value != value:
        return np.nan  # one NaN, whatever its bits
    if not isinstance(value, Real | np.bool_):
        given = type(value).__name__
        raise DefinitionError(f"{function.where}: {function.name} gives {given}. Hint: a feature is a number, or None.")
    return float(value)


def _source(_feature: Feature, _schema: object) -> None:
    return None


FAMILY = Family("extension", (), ("python",), _source)
"""It has no table: a function is called, not compiled."""
