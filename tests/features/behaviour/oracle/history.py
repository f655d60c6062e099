"""History: what is known of a user as of an instant, and which events a name stands for."""

import re
from zoneinfo import ZoneInfo

from features.events.plan import TrackingPlan

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SECOND = 1_000_000
DAY = 86_400 * SECOND
NAN = float("nan")


def microseconds(text):
    return int(text[:-1]) * UNITS[text[-1]] * SECOND


def listed(names):
    return [names] if isinstance(names, str) else names


def named(name, entry):
    return f"{name}_{entry['as']}" if "as" in entry else name


def known_events(events, at):
    """Of the copies of one id that are known and not taken back, the first known; in the order (ts, seq, id)."""
    events = [e for e in events if e["until"] is None or e["known"] < e["until"]]
    chosen = {}
    for event in events:
        untils = [e["until"] for e in events if e["id"] == event["id"] and e["until"] is not None]
        taken_back = any(event["known"] < until <= at for until in untils)
        if event["known"] > at or taken_back:
            continue
        other = chosen.get(event["id"])
        if other is None or (event["known"], event["ts"], event["seq"]) < (other["known"], other["ts"], other["seq"]):
            chosen[event["id"]] = event
    return sorted(chosen.values(), key=lambda e: (e["ts"], e["seq"], e["id"]))


class History:
    """One user's events as of `at`, as far as they are kept."""

    def __init__(self, events, at, plan: TrackingPlan, *, horizon, bound, bounds, zone, kinds=None):
        self.kinds = dict(kinds or {})
        self.at, self.plan, self.horizon, self.zone = at, plan, horizon, ZoneInfo(zone)
        happened = [e for e in known_events(events, at) if e["ts"] <= at]
        midnight = (at - horizon) // DAY * DAY
        self.capped = False
        self.ever = []
        for place, event in enumerate(happened):
            newer = sum(e["event"] == event["event"] for e in happened[place + 1 :])
            if event["ts"] > midnight and newer >= bounds.get(event["event"], bound):
                self.capped = True
            else:
                self.ever.append(event)
        self.recent = [e for e in self.ever if e["ts"] > at - horizon]

    def of(self, event, window):
        events = self.ever if window == "lifetime" else self.recent
        if window not in ("lifetime", None):
            events = [e for e in events if self.at - microseconds(window) < e["ts"] <= self.at]
        return [e for e in events if self.is_a(e, event)]

    def is_a(self, event, name):
        """Whether an event is one of those that a name stands for."""
        if name not in self.kinds:
            return name in ("any", event["event"])
        kind = self.kinds[name]
        listed = [kind["event"]] if isinstance(kind["event"], str) else kind["event"]
        if "any" not in listed and event["event"] not in listed:
            return False
        return all(self.holds(event["properties"].get(p), test) for p, test in kind.get("where", {}).items())

    def holds(self, value, test):
        """Whether a property's value passes; what is missing passes nothing but `exists: false`."""
        test = test if isinstance(test, dict) else {"eq": test}
        if value is None:
            return test == {"exists": False}
        tests = {
            "eq": lambda v, w: v == w,
            "ne": lambda v, w: v != w,
            "gt": lambda v, w: v > w,
            "gte": lambda v, w: v >= w,
            "lt": lambda v, w: v < w,
            "lte": lambda v, w: v <= w,
            "in": lambda v, w: v in w,
            "not_in": lambda v, w: v not in w,
            "between": lambda v, w: w[0] <= v <= w[1],
            "contains": lambda v, w: w in v,
            "starts_with": lambda v, w: v.startswith(w),
            "ends_with": lambda v, w: v.endswith(w),
            "regex": lambda v, w: re.search(w, v) is not None,
            "exists": lambda v, w: w,
        }
        return all(tests[operator](value, wanted) for operator, wanted in test.items())
