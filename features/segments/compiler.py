"""Compiler: definitions with every name resolved against plan, features and studies; each fault with its line."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from features.behaviour.feature import LIFETIME
from features.behaviour.kinds import Kind
from features.behaviour.where import conditions
from features.document import located
from features.errors import DefinitionError, nearest
from features.events.plan import RESERVED
from features.instants import format_duration
from features.segments import context
from features.segments import definitions as d
from features.segments.names import Fault, Names, Path, blaming, kind_of, relaxed, window_of, within
from features.segments.nodes import CLASSES, Cut, Input, Node, Ranges, Side, Window, sources
from features.segments.predicates import EVERYTHING, counts, numbers, within_unit
from features.segments.steps import moves

REQUEST, STREAM, TIMER, BATCH = range(len(CLASSES))
TRAITS = RESERVED[0]


@dataclass
class Compiler:
    """Turns one document into nodes; equal nodes are one.

    Attributes:
        document: The definitions.
        data: The same as it was written, with line numbers where it was a file.
        names: What may be named.
        nodes: In an order in which children come first.
        roots: Per segment, the place of its node.
        stays: Per segment with hysteresis, the place of the node that holds while one stays in.
        exits: Per segment, the kinds of events that end a membership.
    """

    document: d.Document
    data: Mapping[str, Any]
    names: Names
    nodes: list[Node] = field(default_factory=list)
    roots: dict[str, int] = field(default_factory=dict)
    stays: dict[str, int] = field(default_factory=dict)
    exits: dict[str, tuple[Kind, ...]] = field(default_factory=dict)
    _places: dict[Node, int] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    def compile(self, *, where: str) -> None:
        """Resolve every segment.

        Raises:
            DefinitionError: every fault with its line.
        """
        faults = []
        for name in self.document.segments:
            try:
                self._segment(name, ("segments", name))
            except Fault as fault:
                self._open.clear()
                faults.append(f"{located(self.data, fault.path, where)}{fault}")
        if faults:
            raise DefinitionError("\n".join(dict.fromkeys(faults)))

    def _segment(self, name: str, path: Path) -> int:
        if name in self._open:
            raise Fault(path, f"segments refer to each other in a circle: {' -> '.join([*self._open, name])}.")
        if name not in self.document.segments:
            raise Fault(path, f"unknown segment {name!r}. {nearest(name, self.document.segments)}")
        if self._open and self.document.segments[name].membership is not None:
            raise Fault(path, f"{name!r} has a `membership`, which no condition knows. Hint: refer to its `when`.")
        if name not in self.roots:
            spec, own = self.document.segments[name], ("segments", name)
            self._open.append(name)
            self.roots[name] = self._whole(name, spec, spec.when)
            if spec.membership is not None:
                self._membership(name, spec, spec.membership, (*own, "membership"))
            self._open.pop()
        return self.roots[name]

    def _whole(self, name: str, spec: d.SegmentSpec, when: d.Condition) -> int:
        """The node of a condition between the two lists."""
        says = {"segment": name}
        root = self._condition(when, ("segments", name, "when"))
        root = self._add(Node("member", _plain(says), self.nodes[root].level, (root,)))
        if spec.include:
            root = self._joined("any", [root, self._listed("include", spec.include)], says)
        if spec.exclude:
            root = self._joined("all", [root, self._joined("not", [self._listed("exclude", spec.exclude)], says)], says)
        return root

    def _listed(self, name: str, users: tuple[str, ...]) -> int:
        says = _plain({name: f"{len(users)} users"})
        return self._add(Node("input", says, REQUEST, ranges=((1.0, 1.0),), input=Input("listed", name, among=users)))

    def _membership(self, name: str, spec: d.SegmentSpec, said: d.Membership, path: Path) -> None:
        if "context" in sources(self.nodes, self.roots[name]):
            raise Fault(path, "a context is known at a call only, and a membership goes on between calls.")
        self.exits[name] = tuple(self._kind(each, (*path, "exit_on", k)) for k, each in enumerate(said.exit_on))
        if said.hysteresis is not None:
            when = relaxed(spec.when, said.hysteresis.exit, (*path, "hysteresis", "exit"))
            self.stays[name] = self._whole(name, spec, when)

    def _add(self, node: Node) -> int:
        if node not in self._places:
            self._places[node] = len(self.nodes)
            self.nodes.append(node)
        return self._places[node]

    def _joined(self, op: str, children: Sequence[int], says: object) -> int:
        if len(children) == 1 and op in ("all", "any"):
            return children[0]
        level = max(self.nodes[child].level for child in children)
        return self._add(Node(op, _plain(says), level, tuple(children)))

    def _condition(self, condition: d.Condition, path: Path) -> int:
        fields = d.Condition.model_fields
        keys = [(name, fields[name].alias or name) for name in condition.said]
        decided = condition.unknown is False
        parts = []
        for name, key in keys:
            inner = (*path, key)
            part = self._part(name, getattr(condition, name), inner, decided)
            leaf = decided and name not in ("all_", "any_", "none", "not_")
            parts.append(self._joined("known", [part], {key: self._said(inner)}) if leaf else part)
        return self._joined("all", parts, self._said(path))

    def _part(self, name: str, value: Any, path: Path, decided: bool) -> int:  # noqa: ANN401 - any field's value
        says = {path[-1]: self._said(path)}
        if name in ("all_", "any_", "none", "not_"):
            several = name != "not_"
            inner = [(each, (*path, k)) for k, each in enumerate(value)] if several else [(value, path)]
            parts = [self._condition(each, at) for each, at in inner]
            if decided:
                parts = [self._joined("known", [part], says) for part in parts]
            if name in ("all_", "any_"):
                return self._joined(name[:-1], parts, says)
            return self._joined("not", [self._joined("any", parts, {"any": self._said(path)})], says)
        if name == "segment":
            return self._segment(value, path)
        compile_one: Callable[[Any, Path], Node | list[Node]] = getattr(self, f"_{name}")
        with blaming(path):
            made = compile_one(value, path)
        nodes = made if isinstance(made, list) else [made]
        if len(nodes) == 1:
            whole = self._add(replace(nodes[0], says=_plain(says)))
        else:
            whole = self._joined("all", [self._add(node) for node in nodes], says)
        return self._joined("not", [whole], says) if name == "did_not" else whole

    def _said(self, path: Path) -> object:
        value: Any = self.data
        for step in path:
            value = value[step]
        return value

    # -- what events say

    def _kind(self, events: Any, path: Path) -> Kind:  # noqa: ANN401 - every definition with an event
        return kind_of(self.names.words, events.event, events.where, path)

    def _window(self, given: d.Windowed, path: Path) -> Window:
        return window_of(given, path, self.names.horizon)

    def _within(self, span: int, path: Path) -> None:
        within(span, path, self.names.horizon)

    def _did(self, did: d.Counted, path: Path) -> Node:
        window = self._window(did, path)
        level = STREAM if window.mode == "ever" else TIMER
        return Node("count", "", level, kind=self._kind(did, path), window=window, tests=_counts(did.count, path))

    _did_not = _did

    def _nth(self, nth: d.Nth, path: Path) -> Node:
        window = self._window(nth, path)
        level = STREAM if window.mode == "ever" else TIMER
        return Node("nth", "", level, kind=self._kind(nth, path), window=window, numbers=(nth.n,))

    def _regularly(self, said: d.Regularly, path: Path) -> Node:
        self._within(said.per * said.in_.of, (*path, "per"))
        figures = (said.at_least, said.per, said.in_.min, said.in_.of)
        return Node("regularly", "", TIMER, kind=self._kind(said, path), numbers=figures)

    def _stopped(self, said: d.Stopped, path: Path) -> list[Node]:
        self._within(said.last + said.before, (*path, "before"))
        kind, back = self._kind(said, path), said.last + said.before
        before = Window("ago", back, said.last)
        names = {"event": list(said.event), **({"where": self._said((*path, "where"))} if said.where else {})}
        ago = {"from": format_duration(back), "to": format_duration(said.last)}
        did = Node("count", _plain({"did": {**names, "ago": ago}}), TIMER, kind=kind, window=before, tests=counts(None))
        last = {**names, "last": format_duration(said.last)}
        window = Window("ago", said.last)
        not_since = Node("count", _plain({"did_not": last}), TIMER, kind=kind, window=window, tests=((0, 0),))
        return [did, not_since]

    def _resumed(self, said: d.Resumed, path: Path) -> Node:
        self._within(said.last + said.after_gap, (*path, "after_gap"))
        return Node("resumed", "", TIMER, kind=self._kind(said, path), numbers=(said.last, said.after_gap))

    def _compare(self, said: d.Compare, path: Path) -> Node:
        sides = [self._side(said.left, (*path, "left"))]
        if isinstance(said.right, d.Aggregate):
            sides.append(self._side(said.right, (*path, "right")))
        constant = 0.0 if isinstance(said.right, d.Aggregate) else said.right
        level = STREAM if all(side.window.mode == "ever" for side in sides) else TIMER
        op = ("eq", "ne", "gt", "gte", "lt", "lte").index(said.op)
        return Node(
            "compare", "", level, sides=tuple(sides), factor=said.factor, constant=float(constant), numbers=(op,)
        )

    def _side(self, said: d.Aggregate, path: Path) -> Side:
        kind, window = self._kind(said, path), self._window(said, path)
        if said.property is not None:
            with blaming((*path, "property")):
                spec = self.names.words.spec(said.property, kind)
            if spec.type in ("category", "text"):
                raise Fault((*path, "property"), f"{said.property!r} is {spec.type}, and this needs numbers.")
        if said.agg == "mean" and window.mode == "ever":
            horizon = format_duration(self.names.horizon)
            raise Fault(
                (*path, "agg"), f"`mean` is not kept for a life-time. Hint: name a window, such as last: {horizon}."
            )
        return Side(kind, said.agg, said.property or "", window)

    def _sequence(self, said: d.Sequence, path: Path) -> Node:
        last = said.last or self.names.horizon
        self._within(last, (*path, "last"))
        made = moves(said, path, self.names.words, horizon=self.names.horizon)
        match = ("any", "first", "last").index(said.match)
        figures = (last, match, int(said.scope == "session"), said.max_duration or 0)
        return Node("sequence", "", TIMER, moves=made, same=tuple(said.same), numbers=figures)

    def _trait(self, said: Mapping[str, object], path: Path) -> list[Node]:
        plan, nodes = self.names.words.plan, []
        for name, predicate in said.items():
            if name not in plan.traits:
                raise Fault((*path, name), f"unknown trait {name!r}. {nearest(name, plan.traits)}")
            decided = isinstance(predicate, Mapping) and "exists" in predicate
            with blaming((*path, name)):
                tests = conditions({name: predicate}, lambda each: plan.traits[each])
            for prop, intervals in tests:
                says = _plain({"trait": {name: predicate}})
                kind = Kind((TRAITS,))
                nodes.append(Node("trait", says, STREAM, kind=kind, tests=intervals, trait=prop, decided=decided))
        return nodes

    # -- what is handed in

    def _feature(self, said: Mapping[str, object], path: Path) -> list[Node]:
        nodes = []
        for name, predicate in said.items():
            with blaming((*path, name)):
                ranges, decided = numbers(name, predicate)
            node = self._of_feature(name, (*path, name), ranges, _plain({"feature": {name: predicate}}))
            nodes.append(replace(node, decided=decided, absent=decided and not ranges))
        return nodes

    def _of_feature(self, name: str, path: Path, ranges: Ranges, says: str) -> Node:
        if name not in self.names.features:
            raise Fault(path, f"unknown feature {name!r}. {nearest(name, self.names.features)}")
        feature = self.names.features[name]
        change, level, window = "tick", TIMER, Window()
        if feature.family in ("totals", "distinct", "days") and feature.window > 0:
            change, window = "expiry", Window("ago", feature.window)
        elif feature.family == "recency" or feature.stat == "tenure":
            change, window = "threshold", Window("ago", self.names.horizon)
        elif feature.window == LIFETIME:
            change, level = "never", STREAM
        kind = feature.kind if change in ("expiry", "threshold") else None
        tenure = (int(feature.stat == "tenure"),)
        return Node(
            "input", says, level, kind=kind, window=window, ranges=ranges, numbers=tenure, change=change,
            input=Input("count" if feature.family == "totals" and feature.stat == "count" else "feature", name),
        )  # fmt: skip

    def _context(self, said: Mapping[str, object], path: Path) -> list[Node]:
        nodes = []
        for name, predicate in said.items():
            with blaming((*path, name)):
                written = json.dumps(context.check(name, predicate), sort_keys=True, default=str)
            says = _plain({"context": {name: predicate}})
            nodes.append(Node("input", says, REQUEST, ranges=((1.0, 1.0),), input=Input("context", name, test=written)))
        return nodes

    def _bucket(self, said: d.Bucket, _: Path) -> Node:
        given = {key: value for key, value in (("gte", said.gte), ("lt", said.lt)) if value is not None}
        ranges = within_unit("bucket", given, below=1.0)
        return Node("input", "", REQUEST, ranges=ranges, input=Input("bucket", said.salt))

    def _study(self, name: str, path: Path, *kinds: str) -> None:
        known = self.names.studies
        if known is not None and known.get(name) not in kinds:
            able = [each for each in known if known[each] in kinds]
            raise Fault(path, f"no study {name!r} of {kinds[0]}. {nearest(name, able)}")

    def _model(self, said: d.ModelSays, path: Path) -> Node:
        self._study(said.study, (*path, "study"), "propensity")
        given = {key: value for key in ("gte", "gt", "lt", "lte") if (value := getattr(said, key)) is not None}
        source, ranges = ("model", within_unit("model", given)) if given else ("chosen", ((1.0, 1.0),))
        return Node("input", "", TIMER, ranges=ranges, change="tick", input=Input(source, said.study))

    def _cluster(self, said: d.Cluster, path: Path) -> list[Node]:
        self._study(said.study, (*path, "study"), "clusters", "classes")
        known = self.names.clusters.get(said.study, said.in_)
        for k, name in enumerate(said.in_):
            if name not in known:
                raise Fault((*path, "in", k), f"{said.study!r} has no cluster {name!r}. {nearest(name, known)}")
        says = _plain({"cluster": {"study": said.study, "in": list(said.in_)}})
        named = Input("cluster", said.study, tuple(said.in_))
        nodes = [Node("input", says, BATCH, ranges=((1.0, 1.0),), change="tick", input=named)]
        if said.min_confidence is not None:
            ranges, _ = numbers("min_confidence", {"gte": said.min_confidence})
            says = _plain({"cluster": {"study": said.study, "min_confidence": said.min_confidence}})
            nodes.append(
                Node("input", says, BATCH, ranges=ranges, change="tick", input=Input("confidence", said.study))
            )
        return nodes

    def _percentile(self, said: d.Percentile, path: Path) -> Node:
        if said.of is not None:
            self._segment(said.of, (*path, "of"))
        side, q = ("gte", said.gte) if said.gte is not None else ("lte", said.lte)
        node = self._of_feature(said.feature, (*path, "feature"), EVERYTHING, "")
        cut = Cut("percentile", said.feature, said.of or "", float(q or 0), side, said.refresh or 0)
        return replace(node, level=BATCH, cut=cut)

    def _rfm(self, said: d.Rfm, path: Path) -> list[Node]:
        recency, frequency, money = self._rfm_features(said.event, path)
        says = _plain({"feature": {recency: {"exists": True}}})
        nodes = [self._of_feature(recency, path, EVERYTHING, says)]
        for key, feature, side in (("r", recency, "down"), ("f", frequency, "up"), ("m", money, "up")):
            predicate = getattr(said, key)
            if predicate is not None:
                node = self._of_feature(feature, path, EVERYTHING, _plain({"rfm": {key: predicate}}))
                cut = Cut("fifths", feature, recency, side=side, refresh=said.refresh or 0)
                with blaming((*path, key)):
                    tests = counts(predicate)
                    if not any(low <= fifth <= high for low, high in tests for fifth in range(1, 6)):
                        raise DefinitionError("scores are 1 to 5, and none of them passes.")
                nodes.append(replace(node, level=BATCH, cut=cut, tests=tests))
        return nodes

    def _rfm_features(self, event: str | None, path: Path) -> tuple[str, str, str]:
        features = self.names.features.values()
        recencies, counted, totals = (
            [each for each in features if each.stat == s] for s in ("recency", "count", "sum")
        )
        found = [
            (recency.name, count.name, total.name)
            for recency in recencies
            for count in counted
            for total in totals
            if recency.kind == count.kind == total.kind
            and count.window == total.window > 0
            and event in (None, recency.event)
            and self.names.words.plan.property(total.property).type == "money"
        ]
        if len({recency for recency, _, _ in found}) == 1:
            return max(found, key=lambda each: self.names.features[each[1]].window)
        if not found:
            hint = "declare `- {rfm: {event: .., money: .., window: 90d}}` in features.yaml."
            raise Fault(path, f"no feature gives recency, frequency and money of one event. Hint: {hint}")
        hint = ", ".join(sorted({self.names.features[recency].event for recency, _, _ in found}))
        raise Fault(path, f"several events have recency, frequency and money: {hint}. Hint: name one by `event`.")


def _counts(predicate: object, path: Path) -> Any:  # noqa: ANN401 - intervals
    with blaming((*path, "count")):
        return counts(predicate)


def _plain(said: object) -> str:
    return json.dumps(said, default=str, sort_keys=True)
