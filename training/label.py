"""Labels and populations: what is predicted and of whom, evaluated as features; there is one definition of counting."""

from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from features.behaviour.feature_set import FeatureSet
from features.document import Definition, Duration
from features.errors import StudyError, nearest
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, format_duration
from training.model import Model
from training.outcome import Numbers, Outcome, Source

UNBOUNDED = 1 << 40
"""An outcome counts all events: the bound that keeps a state small is none of its business."""

EVER = "lifetime"

OF_EVENTS, OF_ANSWERS = ("did", "did_not", "value"), ("in_cluster", "in_segment")
"""Labels of what happens within H, and of what is so at the end of H."""


def _within(value: object) -> object:
    return None if value == EVER else value


class Condition(Definition):
    """`{did: EVENT, within: 30d}`: at least one such event in the window that ends at `at`; no `within` means ever."""

    did: str
    within: Annotated[Duration | None, BeforeValidator(_within)] = None

    def source(self, plan: TrackingPlan, codes: Codes, *, zone: str) -> Outcome:
        """The one count behind the condition."""
        return Outcome(_one({"count": [self.did]}, self.within, plan, codes, zone))

    def __str__(self) -> str:
        return f"did {self.did}" + (f" within {format_duration(self.within)}" if self.within else "")


class InCluster(Definition):
    """`{study: STUDY, in: [NAME]}`: clusters of a study's registered model, by name or by number; no `in`: which."""

    model_config = ConfigDict(serialize_by_alias=True)

    study: str
    among: tuple[str | int, ...] = Field((), alias="in")

    def __str__(self) -> str:
        return f"{' or '.join(map(str, self.among))} of {self.study}" if self.among else f"of {self.study}"

    def places(self, model: Model) -> NDArray[np.int64]:
        """The clusters' numbers; none where it is asked which.

        Raises:
            StudyError: the model has no such cluster.
        """
        known: dict[str | int, int] = {name: place for place, name in enumerate(model.names)}
        known |= {place: place for place in range(len(model.names))}
        for each in self.among:
            if each not in known:
                raise StudyError(f"the study {self.study!r} has no cluster {each!r}. {nearest(str(each), model.names)}")
        return np.array([known[each] for each in self.among], np.int64)


class Label(Definition):
    """What is predicted, over the horizon H = `within` after `at`, or of the instant `at` + H, H = `after`.

    `{did: EVENT, within: 7d}` is 1 where the event happens at least once, `{did_not: EVENT, within: 30d}` where it does
    not. `{value: EVENT.property, within: 90d}` is the sum of the property; with `above: 100` it is 1 where the sum is
    larger, with `top_share: 0.1` where it is larger than that of nine in ten training rows; with `bands: [20, 100]` it
    asks which of three the sum lies in. `{in_cluster: {study: behaviour, in: [NAME]}, after: 30d}` is 1 where a request
    at `at` + H would be answered with that cluster (without `in` it asks which), and `{in_segment: NAME, after: 30d}`
    where that segment is true then.
    """

    did: str | None = None
    did_not: str | None = None
    value: str | None = None
    in_cluster: InCluster | None = None
    in_segment: str | None = None
    within: Duration | None = None
    after: Duration | None = None
    above: float | None = None
    top_share: float | None = Field(None, gt=0, lt=1)
    bands: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in (*OF_EVENTS, *OF_ANSWERS) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("a label is one of `did`, `did_not`, `value`, `in_cluster` and `in_segment`")
        compared = [name for name in ("above", "top_share", "bands") if getattr(self, name) not in (None, ())]
        if compared and self.value is None:
            raise ValueError(f"`{compared[0]}` goes with `value`")
        if len(compared) > 1:
            raise ValueError("a `value` is compared with one of `above`, `top_share` and `bands`")
        if list(self.bands) != sorted(set(self.bands)):
            raise ValueError(f"`bands` rise. Got {list(self.bands)}.")
        wanted, other = ("after", "within") if given[0] in OF_ANSWERS else ("within", "after")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"`{given[0]}` needs `{wanted}`, such as {{{given[0]}: ..., {wanted}: 7d}}")
        return self

    @property
    def horizon(self) -> int:
        """H in microseconds."""
        return int(self.within or self.after or 0)

    @property
    def asks_which(self) -> bool:
        """Whether it is one of several."""
        return bool(self.bands) or (self.in_cluster is not None and not self.in_cluster.among)

    @property
    def plain(self) -> bool:
        """Whether it is a number as it comes, neither yes or no nor one of several."""
        return self.value is not None and self.above is None and self.top_share is None and not self.bands

    def __str__(self) -> str:
        if self.after is not None:
            where = f"cluster {self.in_cluster}" if self.in_cluster else f"segment {self.in_segment}"
            return f"in {'which ' if self.asks_which else ''}{where} after {format_duration(self.horizon)}"
        what = f"did {self.did}" if self.did else f"did not {self.did_not}" if self.did_not else f"value {self.value}"
        what = f"top {100 * self.top_share:g} % by {what}" if self.top_share is not None else what
        limit = f" above {self.above:g}" if self.above is not None else ""
        limit = f" in bands from {', '.join(f'{edge:g}' for edge in self.bands)}" if self.bands else limit
        return f"{what}{limit} within {format_duration(self.horizon)}"

    def source(self, plan: TrackingPlan, codes: Codes, *, zone: str, asked: Source | None = None) -> Source:
        """What gives the label's number as of `at` + H: a count or sum over the H before, or 1 inside the cluster.

        Args:
            plan: Declares the events that it names.
            codes: Their codes.
            zone: The project's.
            asked: What answers `in_cluster` and `in_segment`.

        Raises:
            StudyError: nothing was handed in that answers.
        """
        if self.after is not None:
            if asked is None:
                raise StudyError(f"nothing here answers who is {self}. Hint: `Study.rows` brings models and segments.")
            return asked
        event = self.did or self.did_not
        what: dict[str, object] = {"count": [event]} if event else {"sum": self.value}
        return Outcome(_one(what, self.within, plan, codes, zone))

    def limit(self, numbers: Numbers) -> float | None:
        """What `top_share` compares with: at most that share of these rows, the training rows, lies above it.

        Raises:
            StudyError: there are no rows.
        """
        if self.top_share is None:
            return self.above
        if not len(numbers):
            raise StudyError("a top share is cut on the training rows, and there are none.")
        return float(np.quantile(numbers, 1 - self.top_share, method="inverted_cdf"))

    def classes(self, source: Source) -> tuple[str, ...]:
        """What it may be, in the order of its numbers; nothing where it is yes or no."""
        if not self.bands:
            return source.classes if self.asks_which else ()
        inner = [f"{low:g} to {high:g}" for low, high in pairwise(self.bands)]
        return (f"below {self.bands[0]:g}", *inner, f"{self.bands[-1]:g} and more")

    def outcome(self, numbers: Numbers, limit: float | None = None) -> Numbers:
        """The label from the number; `limit` as `limit` gave it."""
        if self.bands:
            return np.digitize(numbers, self.bands).astype(np.float64)
        if self.plain or self.asks_which:
            return numbers
        met = numbers == 0 if self.did_not is not None else numbers > (limit or 0.0)
        return np.where(met, 1.0, 0.0)


def _one(what: dict[str, object], window: int | None, plan: TrackingPlan, codes: Codes, zone: str) -> FeatureSet:
    windows = [format_duration(window) if window else EVER]
    data = {"version": 1, "features": [{**what, "windows": windows}]}
    return FeatureSet.from_dict(data, plan, codes, horizon=window or DAY, bound=UNBOUNDED, zone=zone)
