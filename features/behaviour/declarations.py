"""Declarations: features.yaml, read entry by entry; every fault is named with its line."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from features.behaviour.feature import LIFETIME, MEANINGS, Feature
from features.behaviour.kinds import Kind
from features.behaviour.table import Family
from features.behaviour.where import number_of
from features.behaviour.words import KindSpec, Names, Words
from features.document import Definition, validated
from features.errors import DefinitionError, nearest
from features.events.plan import TrackingPlan
from features.instants import format_duration, parse_duration


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


Windows = Annotated[tuple[tuple[str, int], ...], Field(min_length=1), BeforeValidator(_windows)]
"""Windows as written, and in microseconds; `lifetime` is LIFETIME."""


def _ending(windows: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    if any(window == LIFETIME for _, window in windows):
        raise ValueError("this has no life-time. Hint: name a window such as 90d.")
    return windows


Spans = Annotated[Windows, AfterValidator(_ending)]
"""Windows of what has no life-time."""


class Declaration(Definition):
    """One entry of features.yaml; each family has its own.

    Attributes:
        where: Narrows the events that it names.
        name: What such events are called in the features' names, `as` in YAML.
    """

    where: dict[str, Any] = {}
    name: str | None = Field(None, alias="as", pattern="^[a-z][a-z0-9_]*$")

    def features(self, words: Words) -> Iterator[Feature]:
        """The features that the entry stands for."""
        raise NotImplementedError

    def kinds(self, names: Names, words: Words) -> Iterator[tuple[str, Kind]]:
        """Of each event that it names, what it is called, and which events that means."""
        if self.where and (self.name is None or len(names) > 1):
            raise DefinitionError("what `where` leaves of one event needs a name. Hint: `as: buy_clicked`.")
        for name in names:
            yield self.name or name, words.kind(name, self.where)

    def steps(self, names: Names, words: Words, *, least: int = 0) -> tuple[Kind, ...]:
        """Which events each name means, where several are told apart."""
        if self.where:
            raise DefinitionError("`where` narrows one event, and here are several. Hint: name kinds under `events:`.")
        if not least <= len(names) <= MOST_STEPS:
            raise DefinitionError(f"this takes {least} to {MOST_STEPS} events. Got {len(names)}: {', '.join(names)}.")
        return tuple(words.kind(name) for name in names)

    @property
    def suffix(self) -> str:
        """`_<as>`, where features of several events would have one name."""
        return f"_{self.name}" if self.name else ""

    def properties(self, names: Names, words: Words, *, numeric: bool = False) -> Iterator[tuple[str, Kind, str]]:
        """Of each `<event>.<property>` that it names, the same, and the property."""
        for name in names:
            event, prop = words.property(name, numeric=numeric)
            for called, kind in self.kinds((event,), words):
                yield called, kind, prop


class Listing(Declaration):
    """An entry whose features may be categories.

    Attributes:
        values: The list that their numbers are places in; else the plan's `allowed`; else one is learnt.
        top: How many values are learnt at most.
    """

    values: tuple[str | bool | int | float, ...] = ()
    top: int = Field(20, ge=1, le=1000)

    def listed(self, kind: Kind, prop: str, words: Words) -> dict[str, Any]:
        """`values` and `top` of a feature whose number is this property's; nothing where it is no category.

        Raises:
            DefinitionError: text without a list, a list of what is no category, or of what the plan does not allow.
        """
        spec = words.spec(prop, kind)
        if spec.type not in ("category", "text"):
            if self.values:
                raise DefinitionError(f"`values` are for categories, and {prop!r} is a {spec.type}.")
            return {}
        values = tuple(dict.fromkeys(str(value) for value in self.values or spec.allowed or ()))
        for value in values:
            number_of(prop, value, spec)
        if not values and spec.type == "text":
            raise DefinitionError(f"{prop!r} is text, of which no list is learnt. Hint: `values: [...]` declares one.")
        return {"values": values, "top": len(values) or self.top}


MOST_STEPS = 60
"""Kinds that one feature tells apart: what a sequence has met fits the bits of a number."""

COMMON = ("windows", *Listing.model_fields)


class Document(Definition):
    """`features.yaml`; what stands under `inputs` is for formulas alone."""

    version: Literal[1] = 1
    events: dict[str, KindSpec] = {}
    inputs: list[Any] = []
    features: list[Any]


def declared(
    data: Mapping[str, object],
    plan: TrackingPlan,
    families: Sequence[Family],
    *,
    horizon: int,
    where: str = "features",
    own: Sequence[Feature] = (),
) -> tuple[Feature, ...]:
    """The features of a parsed document, in its order, then `own`, then hidden ones; of two equal ones one counts."""
    document = validated(Document, data, where=where)
    words = Words.of(plan, document.events, data, where=where)
    features = {feature.name: feature for feature in own}
    said: list[tuple[str, Feature]] = []
    faults = []
    for feature in own:
        try:
            _within(feature, horizon)
        except _FaultError as fault:
            faults.append(f"definitions.py: {fault}")
    sections = (("features", document.features), ("inputs", document.inputs))
    for section, place, entry in [(name, *each) for name, entries in sections for each in enumerate(entries)]:
        lines = getattr(data.get(section), "lc", None)
        line = f"{where}:{lines.item(place)[0] + 1}" if lines else where
        try:
            for feature in _features(entry, words, families, where):
                _within(feature, horizon)
                _add(features, replace(feature, hidden=feature.hidden or section == "inputs"))
                said.append((line, feature))
        except _FaultError as fault:
            faults.append(f"{line}: {fault}")
        except DefinitionError as error:
            faults.append(line + text.removeprefix(where) if (text := str(error)).startswith(f"{where}: ") else text)
    if not faults:
        faults = [f"{line}: {wrong}" for line, each in said if (wrong := _unknown(each, features))]
    if faults:
        raise DefinitionError("\n".join(faults))
    try:
        ordered(list(features.values()))
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from None
    if not features:
        raise DefinitionError(f"{where}: no feature is declared. Hint: `- {{count: [any], windows: [7d]}}` is one.")
    return tuple(sorted(features.values(), key=lambda feature: (feature.hidden, feature in own)))


def _add(features: dict[str, Feature], feature: Feature) -> None:
    known = features.get(feature.name, feature)
    if replace(known, hidden=feature.hidden) != feature:
        raise _FaultError(f"{feature.name!r} is declared above with another meaning")
    if known.hidden and not feature.hidden:
        features.pop(feature.name)
    features.setdefault(feature.name, feature)


def ordered(features: Sequence[Feature]) -> list[Feature]:
    """The formulas among features, each behind those that it is made of.

    Raises:
        DefinitionError: one is made of itself.
    """
    left = {feature.name: feature for feature in features if feature.of}
    done: list[Feature] = []
    while left:
        ready = [feature for feature in left.values() if not any(name in left for name in feature.of)]
        if not ready:
            raise DefinitionError(f"{next(iter(left))!r} is made of itself. Hint: a formula's parts end in counts.")
        done += ready
        left = {name: feature for name, feature in left.items() if feature not in ready}
    return done


def _unknown(formula: Feature, features: Mapping[str, Feature]) -> str:
    """What is wrong with the parts of a formula; nothing for any other feature."""
    for name in formula.of:
        if name not in features:
            others = {*features} - {formula.name}
            hint = nearest(name, others) if others else "Hint: declare it too; under `inputs:` it is no column."
            return f"{formula.name!r} is made of the unknown feature {name!r}. {hint}"
        if features[name].top:
            return f"{formula.name!r} is made of {name!r}, whose numbers are places in a list."
    return ""


class _FaultError(Exception):
    """A fault of an entry, before its line is known."""


def _features(entry: object, words: Words, families: Sequence[Family], where: str) -> Iterable[Feature]:
    kinds = [kind for family in families for kind in family.declarations]
    known = Counter(key for kind in kinds for key in kind.model_fields if key not in COMMON)
    keys = {key: kind for kind in kinds for key in kind.model_fields if known[key] == 1}
    if not isinstance(entry, Mapping):
        raise _FaultError(f"an entry is a mapping such as {{count: [any], windows: [7d]}}. Got {entry!r}.")
    meant = list(dict.fromkeys(keys[key] for key in entry if key in keys))
    if not meant:
        other = next((str(key) for key in entry if key not in ("as", *COMMON)), "")
        raise _FaultError(f"unknown kind of feature {other!r}. {nearest(other, keys)}")
    parts = [_part(entry, kind, keys, meant) for kind in meant] if len(meant) > 1 else [entry]
    declarations = [validated(kind, part, where=where) for kind, part in zip(meant, parts, strict=True)]
    try:
        found = [feature for each in declarations for feature in each.features(words)]
    except DefinitionError as error:
        raise _FaultError(str(error)) from None
    if not found:
        raise _FaultError(f"the entry gives no feature. It says {dict(entry)!r}.")
    return found


def _part(
    entry: Mapping[str, Any],
    mine: type[Declaration],
    keys: Mapping[str, type[Declaration]],
    meant: list[type[Declaration]],
) -> dict[str, Any]:
    """What an entry of several families says to one of them; an option goes to those that know it, else to all."""
    known = {kind: {field.alias or name for name, field in kind.model_fields.items()} for kind in meant}
    strange = {key for key in entry if key not in keys and not any(key in names for names in known.values())}
    return {key: entry[key] for key in entry if keys.get(key, mine) is mine and key in known[mine] | strange}


def _within(feature: Feature, horizon: int) -> None:
    time_to_pass = "{option}" in MEANINGS[feature.stat] and not feature.stat.startswith("decayed")
    if time_to_pass and feature.option >= horizon:
        raise _FaultError(
            f"{feature.name!r} waits {format_duration(feature.option)}, and nothing is remembered for longer than the "
            f"horizon of {format_duration(horizon)}. Hint: a longer `horizon` in ethogram.yaml, or a shorter time."
        )
    if feature.window > horizon:
        window = format_duration(feature.window)
        raise _FaultError(
            f"{feature.name!r} looks back {window}, longer than the horizon of {format_duration(horizon)}. "
            f"Hint: set `horizon: {window}` in ethogram.yaml, or use a shorter window."
        )
