"""Words: the names that definitions may use for events: the plan's, `any`, and kinds that were given a name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, WithJsonSchema

from features.behaviour.kinds import Kind
from features.behaviour.where import conditions
from features.document import Definition, located
from features.errors import DefinitionError, nearest
from features.events.plan import PropertySpec, TrackingPlan

ANY = "any"


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One name or several."""


class KindSpec(Definition):
    """`{event: clicked, where: {element: buy}}` under `events:` of features.yaml or segments.yaml."""

    event: Names = ()
    where: dict[str, Any] = {}
    description: str = ""


@dataclass(frozen=True)
class Words:
    """The names that definitions may use: the plan's events, `any`, and kinds that were given a name.

    Attributes:
        plan: The tracking plan.
        kinds: Named kinds.
    """

    plan: TrackingPlan
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: TrackingPlan, specs: Mapping[str, KindSpec], data: Mapping[str, object], *, where: str) -> Self:
        """The plan's words and these, which stand under `events:` of the document `data`.

        Raises:
            DefinitionError: a name is taken, or a kind says what the plan does not know; every fault with its line.
        """
        words, kinds, faults = cls(plan), {}, []
        for name, spec in specs.items():
            path = ["events", name]
            try:
                if name == ANY or name in plan.specs:
                    raise DefinitionError(f"{name!r} is an event of the plan. Hint: give what you define another name.")
                path[2:] = ["event"]
                words.kind(spec.event)
                for prop, predicate in spec.where.items():
                    path[2:] = ["where", prop]
                    words.kind(spec.event, {prop: predicate})
                kinds[name] = words.kind(spec.event, spec.where)
            except DefinitionError as error:
                faults.append(f"{located(data, path, where)}{error}")
        if faults:
            raise DefinitionError("\n".join(faults))
        return cls(plan, kinds)

    def kind(self, name: str | tuple[str, ...], where: Mapping[str, object] | None = None) -> Kind:
        """The kind behind a name or several, narrowed by a `where`.

        Raises:
            DefinitionError: an unknown name, property or operator; several named kinds at once.
        """
        names = (name,) if isinstance(name, str) else name
        for each in names:
            if each != ANY and each not in self.plan.specs and each not in self.kinds:
                raise DefinitionError(f"unknown event {each!r}. {nearest(each, self.names)}")
        if len(names) == 1 and names[0] in self.kinds:
            known = self.kinds[names[0]]
        elif any(each in self.kinds for each in names):
            raise DefinitionError("several events at once are events of the plan. Hint: list them in the kind itself.")
        else:
            known = Kind() if ANY in names else Kind(tuple(sorted(set(names))))
        if not where:
            return known
        return Kind(known.events, tuple(sorted({*known.where, *conditions(where, lambda p: self.spec(p, known))})))

    @property
    def names(self) -> list[str]:
        """Everything that may be said for an event."""
        return [ANY, *self.plan.specs, *self.kinds]

    def spec(self, name: str, kind: Kind) -> PropertySpec:
        """The declaration of a property that each of the kind's events carries; of any event, that some event does.

        Allowed is what one of these events allows.
        """
        carriers = [event for event, each in self.plan.specs.items() if name in each.properties]
        specs = [self.plan.property(name, event) for event in kind.events or carriers or (ANY,)]
        lists = [each.allowed for each in specs]
        allowed = None if None in lists else tuple(dict.fromkeys(value for each in lists for value in each or ()))
        return specs[0] if allowed == specs[0].allowed else specs[0].model_copy(update={"allowed": allowed})

    def property(self, name: str, *, numeric: bool = False) -> tuple[str, str]:
        """`order_completed.revenue` as (event, property).

        Raises:
            DefinitionError: either is unknown, or the property is text where numbers are needed.
        """
        event, dot, prop = name.partition(".")
        if not dot:
            raise DefinitionError(f"{name!r} names no property. Hint: write <event>.<property>, as in {name}.price.")
        spec = self.spec(prop, self.kind(event))
        if numeric and spec.type in ("category", "text"):
            raise DefinitionError(
                f"{name!r} is {spec.type}, and this needs numbers. Hint: `distinct` takes any property."
            )
        return event, prop
