"""Feature: one declared number, and what it says in words."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from features.behaviour.kinds import ANYTHING, Kind
from features.instants import format_duration

LIFETIME = -1
"""The window of a life-time feature."""

MEANINGS: Mapping[str, str] = {
    "count": "number of {event}",
    "sum": "sum of {what}",
    "mean": "mean of {what}; missing without one",
    "min": "least {what}; missing without one",
    "max": "greatest {what}; missing without one",
    "first": "first {what}; missing without one",
    "last": "newest {what}; missing without one",
    "std": "standard deviation of {what} (of the whole population); missing without one",
    "median": "median of {what}; missing without one",
    "mode": "most frequent {what}, of equally frequent ones the newest; missing without one",
    "top_share": "share of the {said} most frequent {what}; missing without one",
    "share": "share of {said} in {what}; missing without one",
    "distinct": "number of different {what}",
    "active_days": "days with {event}",
    "recency": "seconds since the newest {event}; missing where there was none",
    "tenure": "seconds since the first {event} ever; missing where there was none",
    "sessions": "number of sessions ({option} of silence end it)",
    "session_minutes": "mean minutes of a session ({option} of silence end it); missing without one",
    "session_depth": "mean events of a session ({option} of silence end it); missing without one",
    "bounce_share": "share of sessions of one event ({option} of silence end it); missing without one",
    "session_pause_minutes": "mean minutes between sessions ({option} of silence end it); missing without two",
    "session_count": "mean number of {event} in a session ({option} of silence end it); missing without one",
    "session_distinct": "mean number of different {what} in a session ({option} of silence end it); missing without",
    "current_session_minutes": "minutes of the open session ({option} of silence end it); 0 without one",
    "current_session_count": "number of {event} in the open session ({option} of silence end it)",
    "current_session_distinct": "number of different {what} in the open session ({option} of silence end it)",
    "transition": "chance of moving {said} in a session ({option} of silence end it), among {event}; missing without",
    "entropy": "bits of entropy of {event}; missing without one",
    "moves": "moves {said} in a session ({option} of silence end it), among {event}",
    "transition_entropy": "bits of entropy of what comes next in a session, among {event}; missing without one",
    "ngram": "number of times that {event} directly follow each other in a session ({option} of silence end it)",
    "pattern": "number of sessions ({option} of silence end one) with {event} in this order",
    "has_pattern": "1 where a session ({option} of silence ends it) has {event} in this order, else 0",
    "funnel_furthest": "steps taken of {event}, at most, each attempt within {option} of its start",
    "funnel_dropoff": "step not taken in the newest incomplete attempt at {event} within {option}; missing without one",
    "funnel_step_s": "seconds to step {said}, in the newest attempt at {event} within {option} that took it",
    "funnel_since_incomplete_s": "seconds since the newest incomplete attempt at {event} within {option} was left",
    "dwell": "seconds from each {event} to what came next, each at most {option}, summed",
    "mean_dwell": "mean seconds from {event} to what came next, each at most {option}; missing without one",
    "hour_share": "share of {event} from {said}, by the clock of where they happened; missing without one",
    "weekday_share": "share of {event} on {said}, by the clock of where they happened; missing without one",
    "mean_interval": "mean seconds from one {event} to the next; missing without two",
    "interval_variation": "standard deviation of the times between one {event} and the next, over their mean",
    "streak": "consecutive days with {event}, up to today or yesterday",
    "longest_streak": "most consecutive days with {event}",
    "decayed_count": "number of {event}, each worth half after {option}",
    "decayed_sum": "sum of {what}, each worth half after {option}",
    "rage_clicks": "number of {event} after at least {said} others on the same {what} within {option}",
    "dead_clicks": "number of {event} that nothing follows within {option}, once it has passed",
    "abandoned_carts": "number of {event} that neither another nor {said} follows within {option}, once it has passed",
    "cart_value": "sum of {said}, since the newest {event}",
    "ratio": "{said}; missing where the second is 0",
    "difference": "{said}",
    "score": "{said}",
    "python": "{said} (in Python, slower)",
    "rank": "1 to {n}, by how many of {n_cuts} cuts {said} is above",
    "rank_down": "1 to {n}, by how many of {n_cuts} cuts {said} is not above",
}
"""What each statistic says, in words."""


@dataclass(frozen=True)
class Feature:
    """One declared number.

    Attributes:
        name: `<what>_<event>_<window>`.
        family: The family that computes it.
        stat: What the family takes of the stream, such as `sum`.
        event: What its declaration calls the events.
        kind: Which events those are.
        property: Which property; empty where events or instants are counted.
        times: A property that it is multiplied by, if any.
        window: Microseconds; 0 where the family looks back as far as the horizon; LIFETIME.
        option: A family's own setting, such as the gap of sessions in microseconds.
        steps: The events that the family tells apart, in order, where it takes several.
        detail: A family's own settings beside it, as many integers as it likes.
        part: Which part of what its stream holds it is, such as a step of a funnel.
        said: What its declaration says beyond all that, for its meaning.
        values: Of a category the frozen list that its numbers are places in; a hash where its text is not known.
        top: Of a category the greatest length of that list; 0 for numbers.
        of: Of a formula, the names of the features that it is made of.
        numbers: Of a formula, its weights or cuts.
        learnt: As of when, and from whom, the list, cuts or steps were learnt; empty where they were declared.
        hidden: Whether it is there for formulas alone: no column shows it.
        properties: Of a function of definitions.py, what it reads.
        code: Of such a function, the text of the whole file.
    """

    name: str
    family: str
    stat: str
    event: str = "any"
    kind: Kind = ANYTHING
    property: str = ""
    window: int = 0
    option: int = 0
    steps: tuple[Kind, ...] = ()
    detail: tuple[int, ...] = ()
    part: int = 0
    said: str = ""
    values: tuple[str | int, ...] = ()
    top: int = 0
    of: tuple[str, ...] = ()
    numbers: tuple[int | float, ...] = ()  # as they were written: the fingerprint tells 1 from 1.0
    learnt: str = ""
    hidden: bool = False
    times: str = ""
    properties: tuple[str, ...] = ()
    code: str = ""

    @functools.cached_property
    def waits(self) -> bool:
        """Whether it has a list or cuts that are still to be learnt."""
        without = (self.top and not self.values) or (self.stat in ("rank", "rank_down") and not self.numbers)
        return bool(without) and not self.learnt

    def reads(self) -> set[str]:
        """The properties that it needs of the events."""
        kinds = (self.kind, *self.steps)
        named = {self.property, self.times, *self.properties} - {""}
        return {name for kind in kinds for name in kind.properties} | named

    def meaning(self) -> str:
        """The feature in words, as `ethogram features` lists it."""
        what = f"{self.event}.{self.property}" if self.property else self.event
        option = format_duration(self.option) if self.option else ""
        ranks = {"n_cuts": self.option - 1, "n": self.option} if self.of else {}
        words = MEANINGS[self.stat].format(event=self.event, what=what, option=option, said=self.said, **ranks)
        if self.window == LIFETIME:
            words += ", ever"
        elif self.window:
            words += f", last {format_duration(self.window)}"
        if self.waits:
            return f"{words} (to be learnt from training rows)"
        if self.steps and self.learnt:
            words += f" (mined as of {self.learnt})"
        return words + (f" ({self.listing()})" if self.top else "")

    def listing(self) -> str:
        """What a category's numbers stand for."""
        return ", ".join(f"{place} = {value}" for place, value in enumerate([*self.values, "any other"]))
