"""The naive interpreter: conditions as written, over a plain list of events; it imports nothing of the evaluator.

Every window is a scan of the whole list; a sequence tries every way to give its steps their events. True, False, or
None where nobody knows.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import xxhash

from tests.features.behaviour.oracle import DAY, Oracle, microseconds
from tests.features.segments.naive.logic import attribute, both, called, either, inverse, missing, test
from tests.features.segments.naive.steps import Steps

__all__ = ["DAY", "Naive"]

MINUTE = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Naive:
    """What a document's conditions say of one user as of `at`.

    Handed in are `cuts` (a feature's percentiles 20, 40, 60, 80), `scores` (by study), the `context`, and the instant
    of the `call`.
    """

    USER = "ann"

    def __init__(
        self, segments, events, at, plan, *,
        declared=(), gap=30 * MINUTE, cuts=None, scores=None, context=None, call=None, **settings,
    ):  # fmt: skip
        self.segments, self.at, self.gap = segments, at, gap
        self.cuts, self.scores, self.context = cuts or {}, scores or {}, context or {}
        self.call = at if call is None else call
        self.oracle = Oracle(events, at, plan, **settings)
        self.horizon, self.zone = settings["horizon"], self.oracle.zone
        self.ever, self.recent = self.oracle.ever, self.oracle.recent
        self.features = self.oracle.features(declared)

    def member(self, name):
        when = self.segments[name]["when"]
        return (bool(self.ever) or not self.asks(when)) and self.condition(when) is True

    def asks(self, when):
        """Whether anything of the person is asked, not of the call and the id alone."""
        deeper = {"all": list, "any": list, "none": list, "not": lambda one: [one]}
        for key, value in when.items():
            if key in deeper and any(self.asks(each) for each in deeper[key](value)):
                return True
            if key == "segment" and self.asks(self.segments[value]["when"]):
                return True
            if key not in (*deeper, "segment", "context", "bucket", "unknown"):
                return True
        return False

    def condition(self, when):
        decided = when.get("unknown") is False
        return both(self.part(key, value, decided) for key, value in when.items() if key != "unknown")

    def part(self, key, value, decided):
        settled = (lambda truth: bool(truth)) if decided else (lambda truth: truth)
        if key in ("all", "any", "none"):
            parts = [settled(self.condition(each)) for each in value]
            return both(parts) if key == "all" else either(parts) if key == "any" else inverse(either(parts))
        if key == "not":
            return inverse(settled(self.condition(value)))
        if key == "segment":
            return self.member(value)
        return settled(getattr(self, f"_{key}")(value))

    # -- events

    def is_a(self, event, said):
        names = said["event"] if isinstance(said["event"], list) else [said["event"]]
        named = "any" in names or event["event"] in names
        where = said.get("where", {})
        return named and all(self.oracle.holds(event["properties"].get(p), t) for p, t in where.items())

    def windowed(self, said):
        """The events of a window; None where they are not all kept."""
        at, events = self.at, self.ever
        if "last" in said:
            return [e for e in events if at - microseconds(said["last"]) < e["ts"] <= at]
        if "ago" in said:
            start, end = microseconds(said["ago"]["from"]), microseconds(said["ago"]["to"])
            return [e for e in events if at - start < e["ts"] <= at - end]
        first = events[0]["ts"] if events else None
        if "between" in said:
            start, end = (instant(said["between"][key]) for key in ("from", "to"))
            if first is not None and start <= at - self.horizon and first <= at - self.horizon and first < end:
                return None
            return [e for e in events if start <= e["ts"] < end]
        if "since_first_seen" in said:
            if first is not None and first <= at - self.horizon:
                return None
            return [e for e in events if e["ts"] <= first + microseconds(said["since_first_seen"])]
        if "session" in said:
            run = self.runs()[-1] if self.recent else []
            return run if run and at - run[-1]["ts"] <= self.gap else []
        if "calendar" in said:
            return [e for e in events if self.period(e["ts"], said["calendar"]) == self.period(at, said["calendar"])]
        return events

    def runs(self):
        runs = []
        for event in self.recent:
            if runs and event["ts"] - runs[-1][-1]["ts"] <= self.gap:
                runs[-1].append(event)
            else:
                runs.append([event])
        return runs

    def period(self, ts, unit):
        local = (EPOCH + timedelta(microseconds=ts)).astimezone(self.zone)
        if unit == "week":
            return local.isocalendar()[:2]
        return (local.year, local.month) if unit == "month" else local.date()

    def _did(self, said):
        events = self.windowed(said)
        if events is None:
            return None
        return test(sum(self.is_a(e, said) for e in events), said.get("count", {"gte": 1}))

    def _did_not(self, said):
        return inverse(self._did(said))

    def _nth(self, said):
        events = self.windowed(said)
        if events is None:
            return None
        mine = [e for e in self.ever if self.is_a(e, said)]
        return len(mine) >= said["n"] and mine[said["n"] - 1] in events

    def _regularly(self, said):
        per = microseconds(said["per"])
        periods = [
            sum(self.is_a(e, said) for e in self.ever if self.at - (k + 1) * per < e["ts"] <= self.at - k * per)
            for k in range(said["in"]["of"])
        ]
        return sum(n >= said.get("at_least", 1) for n in periods) >= said["in"]["min"]

    def _stopped(self, said):
        last, before = microseconds(said["last"]), microseconds(said["before"])
        ages = [self.at - e["ts"] for e in self.ever if self.is_a(e, said)]
        return not any(age < last for age in ages) and any(last <= age < last + before for age in ages)

    def _resumed(self, said):
        mine = [e["ts"] for e in self.ever if self.is_a(e, said)]
        return any(
            later - earlier >= microseconds(said["after_gap"]) and later > self.at - microseconds(said["last"])
            for earlier, later in pairwise(mine)
        )

    def _compare(self, said):
        left = self.figure(said["left"])
        right = said["right"] if isinstance(said["right"], int | float) else self.figure(said["right"])
        if left is None or right is None:
            return None
        return test(left, {said["op"]: right * said.get("factor", 1)})

    def figure(self, said):
        events = self.windowed(said)
        if events is None:
            return None
        mine = [e for e in events if self.is_a(e, said)]
        agg = said.get("agg", "count")
        if agg == "count":
            return len(mine)
        factor = self.oracle.plan.property(said["property"]).factor
        values = [round(v * factor) for e in mine if (v := e["properties"].get(said["property"])) is not None]
        if agg == "sum":
            return sum(values) / factor
        if not values:
            return None
        if agg == "mean":
            return sum(values) / (len(values) * factor)
        return {"min": min(values), "max": max(values), "first": values[0], "last": values[-1]}[agg] / factor

    def _trait(self, said):
        def latest(name):
            values = [e["properties"].get(name) for e in self.ever if e["event"] == "identify"]
            return next((v for v in reversed(values) if v is not None), None)

        return both(attribute(latest(name), predicate) for name, predicate in said.items())

    def _feature(self, said):
        return both(attribute(self.features[name], predicate) for name, predicate in said.items())

    # -- what is handed in

    def _percentile(self, said):
        key = "gte" if "gte" in said else "lte"
        value, bounds = self.features[said["feature"]], self.cuts.get(said["feature"])
        return None if missing(value) or bounds is None else test(value, {key: bounds[said[key] // 20 - 1]})

    def _rfm(self, said):
        measured = {"r": "recency_buy_s", "f": "count_buy_20d", "m": "sum_buy_revenue_20d"}

        def score(key):
            value, bounds = self.features[measured[key]], self.cuts.get(measured[key])
            if missing(value) or bounds is None:
                return None
            above = sum(value > bound for bound in bounds)
            return 5 - above if key == "r" else 1 + above

        customer = None if missing(self.features["recency_buy_s"]) else True
        scores = {key: score(key) for key in said}
        return both([customer, *(None if scores[k] is None else test(scores[k], said[k]) for k in said)])

    def _model(self, said):
        if said["study"] not in self.scores:
            return None
        score = self.scores[said["study"]]
        bounds = {key: bound for key, bound in said.items() if key != "study"}
        return test(score["probability"], bounds or {"gte": score["threshold"]})

    def _cluster(self, said):
        if said["study"] not in self.scores:
            return None
        score = self.scores[said["study"]]
        named = [said["in"]] if isinstance(said["in"], str) else said["in"]
        return score["name"] in named and score["confidence"] >= said.get("min_confidence", 0)

    def _bucket(self, said):
        share = (xxhash.xxh64_intdigest(f"{said['salt']}:{self.USER}".encode()) >> 11) / 2**53
        return test(share, {key: bound for key, bound in said.items() if key != "salt"})

    def _context(self, said):
        return both(called(self.said(path), predicate) for path, predicate in said.items())

    def said(self, path):
        if path in ("local_time", "weekday") and path not in self.context:
            if "timezone" not in self.context:
                return None
            local = (EPOCH + timedelta(microseconds=self.call)).astimezone(ZoneInfo(self.context["timezone"]))
            return local.isoformat()[11:16] if path == "local_time" else local.strftime("%a").lower()
        value = self.context
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        return value

    # -- sequences

    def _sequence(self, said):
        events = self.recent
        if "last" in said:
            events = [e for e in events if e["ts"] > self.at - microseconds(said["last"])]
        return Steps(self, said, events).truth()


def instant(text):
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
