"""Declarations: features.yaml, read entry by entry; every fault is named with its line."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from features.behaviour.table import LIFETIME, Family, Feature
from features.document import Definition, load, validated
from features.errors import DefinitionError, nearest
from features.events.plan import TrackingPlan
from features.instants import format_duration, parse_duration

ANY = "any"


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _windows(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence):
        return value
    return [(text, LIFETIME if text == "lifetime" else _microseconds(text)) for text in texts]


def _microseconds(text: object) -> int:
    try:
        return parse_duration(str(text))
    except DefinitionError as error:
        raise ValueError(str(error)) from None


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""One name or several."""
Windows = Annotated[tuple[tuple[str, int], ...], Field(min_length=1), BeforeValidator(_windows)]
"""Windows as written, and in microseconds; `lifetime` is LIFETIME."""


class Declaration(Definition):
    """One entry of features.yaml; each family has its own."""

    def features(self, plan: TrackingPlan) -> Iterator[Feature]:
        """The features that the entry stands for."""
        raise NotImplementedError


class Document(Definition):
    """`features.yaml`."""

    version: Literal[1] = 1
    features: list[Any]


def read(path: Path | str, plan: TrackingPlan, families: Sequence[Family], *, horizon: int) -> tuple[Feature, ...]:
    """The features that a file declares.

    Raises:
        DefinitionError: the file is absent or says what it cannot; every fault with its line.
    """
    path = Path(path)
    return declared(load(path), plan, families, horizon=horizon, where=path.name)


def declared(
    data: Mapping[str, object],
    plan: TrackingPlan,
    families: Sequence[Family],
    *,
    horizon: int,
    where: str = "features",
) -> tuple[Feature, ...]:
    """The features of a parsed document, in its order; one that is declared twice counts once."""
    document = validated(Document, data, where=where)
    features: dict[str, Feature] = {}
    faults = []
    lines = getattr(data.get("features"), "lc", None)
    for place, entry in enumerate(document.features):
        try:
            for feature in _features(entry, plan, families, where):
                _within(feature, horizon)
                if features.setdefault(feature.name, feature) != feature:
                    raise _FaultError(f"{feature.name!r} is declared above with another meaning")
        except _FaultError as fault:
            faults.append(f"{where}: {fault}")
        except DefinitionError as error:
            faults.append(str(error))
        if lines and faults and faults[-1].startswith(f"{where}: "):
            faults[-1] = f"{where}:{lines.item(place)[0] + 1}" + faults[-1].removeprefix(where)
    if faults:
        raise DefinitionError("\n".join(faults))
    if not features:
        raise DefinitionError(f"{where}: no feature is declared. Hint: `- {{count: [any], windows: [7d]}}` is one.")
    return tuple(features.values())


class _FaultError(Exception):
    """A fault of an entry, before its line is known."""


def _features(entry: object, plan: TrackingPlan, families: Sequence[Family], where: str) -> Iterable[Feature]:
    kinds = [kind for family in families for kind in family.declarations]
    keys = {key: kind for kind in kinds for key in kind.model_fields if key != "windows"}
    if not isinstance(entry, Mapping):
        raise _FaultError(f"an entry is a mapping such as {{count: [any], windows: [7d]}}. Got {entry!r}.")
    kind = next((keys[key] for key in entry if key in keys), None)
    if kind is None:
        other = next((str(key) for key in entry if key != "windows"), "")
        raise _FaultError(f"unknown kind of feature {other!r}. {nearest(other, keys)}")
    declaration = validated(kind, entry, where=where)
    try:
        return list(declaration.features(plan))
    except DefinitionError as error:
        raise _FaultError(str(error)) from None


def _within(feature: Feature, horizon: int) -> None:
    if feature.window > horizon:
        window = format_duration(feature.window)
        raise _FaultError(
            f"{feature.name!r} looks back {window}, longer than the horizon of {format_duration(horizon)}. "
            f"Hint: set `horizon: {window}` in ethogram.yaml, or use a shorter window."
        )


def event_of(name: str, plan: TrackingPlan) -> str:
    """An event of the plan, or `any`."""
    if name != ANY and name not in plan.specs:
        raise DefinitionError(f"unknown event {name!r}. {nearest(name, [ANY, *plan.specs])}")
    return name


def property_of(name: str, plan: TrackingPlan, *, numeric: bool = False) -> tuple[str, str]:
    """`order_completed.revenue` as (event, property), both of the plan.

    Raises:
        DefinitionError: either is unknown, or the property is text where numbers are needed.
    """
    event, dot, prop = name.partition(".")
    if not dot:
        raise DefinitionError(f"{name!r} names no property. Hint: write <event>.<property>, as in {name}.price.")
    spec = plan.property(prop, event_of(event, plan))
    if numeric and spec.type in ("category", "text"):
        raise DefinitionError(f"{name!r} is {spec.type}, and this needs numbers. Hint: `distinct` takes any property.")
    return event, prop
