"""The oracle: every feature over a plain list of events, written from the semantics, deliberately naive.

It imports nothing of the product but the plan, and shares no idea with the kernels: every window is a scan of the whole
list, and nothing is remembered from one feature to the next.
"""

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import exp, log, log2, sqrt
from zoneinfo import ZoneInfo

from features.events.plan import TrackingPlan

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SECOND = 1_000_000
DAY = 86_400 * SECOND
NAN = float("nan")
OPTIONS = ("where", "as", "windows", "gap", "values", "k", "alpha", "within", "bands", "half_life", "clicks")
"""Keys of an entry that say how, not what."""


def listed(names):
    return [names] if isinstance(names, str) else names


def named(name, entry):
    return f"{name}_{entry['as']}" if "as" in entry else name


def at_home(event):
    """By the clock of where the event happened."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=event["ts"], minutes=event["offset"])


def added(numbers):
    """One after the other: what Python's `sum` makes of floats is more exact, and not what is promised to the bit."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def bits(counts):
    return added(n * log2(n) for n in counts if n)


def microseconds(text):
    return int(text[:-1]) * UNITS[text[-1]] * SECOND


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


class Oracle:
    """One user's features as of `at`."""

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

    def integers(self, event, prop, window):
        spec = self.plan.property(prop)
        values = [e["properties"].get(prop) for e in self.of(event, window)]
        if spec.numeric:
            return [round(v * spec.factor) for v in values if v is not None], spec.factor
        return [int(v) for v in values if v is not None], 1

    def total(self, stat, name, window):
        if stat == "count":
            return float(len(self.of(name, window)))
        event, prop = name.split(".")
        values, factor = self.integers(event, prop, window)
        if stat == "sum":
            return float(sum(values)) / float(factor)
        if not values:
            return NAN
        if stat == "mode":
            return float(self.most_frequent(values)) / float(factor)
        if stat == "mean":
            return float(sum(values)) / float(len(values) * factor)
        if stat == "std":
            apart = [value - values[-1] for value in values]
            mean, square = float(sum(apart)) / len(values), float(sum(a * a for a in apart)) / len(values)
            return sqrt(max(0.0, square - mean * mean)) / float(factor)
        if stat == "median":
            ranked = sorted(values)
            return float(ranked[len(ranked) // 2] + ranked[(len(ranked) - 1) // 2]) / float(2 * factor)
        chosen = {"min": min(values), "max": max(values), "first": values[0], "last": values[-1]}[stat]
        return float(chosen) / float(factor)

    def most_frequent(self, values):
        """Of the most frequent values the one that comes last."""
        most = max(values.count(value) for value in values)
        return [value for value in values if values.count(value) == most][-1]

    def texts(self, name, window):
        event, prop = name.split(".")
        return [e["properties"][prop] for e in self.of(event, window) if prop in e["properties"]]

    def category(self, stat, name, window, listed):
        """The place in the list, its length for any other value."""
        values = self.texts(name, window)
        if not values:
            return NAN
        value = {"first": values[0], "last": values[-1], "mode": self.most_frequent(values)}[stat]
        return float([*listed, value].index(value))

    def distinct(self, name, window):
        event, prop = name.split(".")
        return float(len({e["properties"][prop] for e in self.of(event, window) if prop in e["properties"]}))

    def active_days(self, event, window):
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        instants = [epoch + timedelta(microseconds=e["ts"]) for e in self.of(event, window)]
        return float(len({instant.astimezone(self.zone).date() for instant in instants}))

    def recency(self, event):
        events = self.of(event, None)
        return float(self.at - events[-1]["ts"]) / SECOND if events else NAN

    def tenure(self, event):
        events = self.of(event, "lifetime")
        return float(self.at - events[0]["ts"]) / SECOND if events else NAN

    def runs(self, gap, window=None):
        """The events of a window in sessions."""
        runs = []
        for event in self.of("any", window):
            if runs and event["ts"] - runs[-1][-1]["ts"] <= gap:
                runs[-1].append(event)
            else:
                runs.append([event])
        return runs

    def over(self, gap, window):
        """The sessions that are over, of those the ones that ended in the window."""
        over = [run for run in self.runs(gap) if self.at - run[-1]["ts"] > gap]
        return [run for run in over if self.at - microseconds(window) < run[-1]["ts"]]

    def distinct_in(self, events, name):
        event, prop = name.split(".")
        mine = [e for e in events if self.is_a(e, event)]
        return len({e["properties"][prop] for e in mine if prop in e["properties"]})

    def dwell(self, name, gap, window):
        """Time to the next event, or the gap where it is over; of the window's events of which one of both is true."""
        stays = []
        for event in self.of(name, window):
            place = self.recent.index(event)
            if place + 1 < len(self.recent):
                stays.append(min(self.recent[place + 1]["ts"] - event["ts"], gap))
            elif self.at - event["ts"] >= gap:
                stays.append(gap)
        return stays

    def features(self, declared):
        """Name to value, for a list of entries as in features.yaml."""
        values = {}
        for entry in map(self.named, declared):
            for key, what in entry.items():
                if key in OPTIONS:
                    continue
                if hasattr(self, f"put_{key}"):
                    for window in entry.get("windows", [None]):
                        getattr(self, f"put_{key}")(values, what, window, entry)
                    continue
                for name in [what] if isinstance(what, str) else what:
                    self.put(values, key, name, entry.get("windows", ["s"]))
        return values

    def named(self, entry):
        """The entry without its `where`: what it says becomes a kind, and the kind's name stands in its place."""
        if "where" not in entry:
            return entry
        ((key, name),) = [(k, v) for k, v in entry.items() if k not in OPTIONS]
        event = name.partition(".")[0]
        self.kinds[entry["as"]] = {"event": event, "where": entry["where"]}
        options = {k: v for k, v in entry.items() if k in OPTIONS and k not in ("where", "as")}
        return {key: entry["as"] + name[len(event) :], **options}

    def put(self, values, kind, name, windows):
        for window in windows:
            if kind in ("recency", "tenure"):
                value = getattr(self, kind)(name)
            elif kind in ("distinct", "active_days"):
                value = getattr(self, kind)(name, window)
            else:
                value = self.total(kind, name, window)
            values[f"{kind}_{name.replace('.', '_')}_{window}"] = value

    def put_ratio(self, values, what, _, entry):
        of, by = values[what["of"]], values[what["by"]]
        values[entry["as"]] = of / by if by else NAN

    def put_difference(self, values, what, _, entry):
        values[entry["as"]] = values[what["of"]] - values[what["minus"]]

    def put_score(self, values, what, _, entry):
        total = 0.0
        for name, weight in what["weights"].items():
            total += weight * values[name]
        values[entry["as"]] = total

    def put_trend(self, values, what, *_):
        for name in listed(what):
            week, four = (len(self.of(name, window)) for window in ("7d", "28d"))
            values[f"trend_{name}"] = 4.0 * week / four if four else NAN

    def put_rfm_score(self, values, what, *_):
        event, window = what["event"], what["window"]
        numbers = {
            "r": self.recency(event),
            "f": self.total("count", event, window),
            "m": self.total("sum", f"{event}.{what['money']}", window),
        }
        for letter, number in numbers.items():
            cuts = what["cuts"][letter]
            passed = sum(number > cut for cut in cuts)
            rank = 1.0 + (len(cuts) - passed if letter == "r" else passed)
            values[f"rfm_{letter}_{event}_{window}"] = rank if number == number else NAN

    def put_first(self, values, what, window, entry, kind="first"):
        for name in listed(what):
            category = "values" in entry
            value = self.category(kind, name, window, entry["values"]) if category else self.total(kind, name, window)
            values[f"{kind}_{name.replace('.', '_')}_{window}"] = value

    def put_last(self, values, what, window, entry):
        self.put_first(values, what, window, entry, "last")

    def put_rage_clicks(self, values, what, window, entry):
        within, name = microseconds(entry["within"]), what
        event, prop = name.split(".")
        on = [e for e in self.of(event, None) if prop in e["properties"]]
        raging = 0
        for place, click in enumerate(on):
            before = [e for e in on[:place] if e["ts"] >= click["ts"] - within]
            same = [e for e in before if e["properties"][prop] == click["properties"][prop]]
            raging += click in self.of(event, window) and len(same) + 1 >= entry["clicks"]
        values[f"rage_clicks_{name.replace('.', '_')}_{window}"] = float(raging)

    def put_dead_clicks(self, values, what, window, entry):
        within = microseconds(entry["within"])
        over = [e for e in self.of(what, window) if self.at >= e["ts"] + within]
        dead = [e for e in over if not any(e["ts"] < f["ts"] <= e["ts"] + within for f in self.recent)]
        values[f"dead_clicks_{what}_{window}"] = float(len(dead))

    def put_abandoned_carts(self, values, what, window, entry):
        within, recent = microseconds(what.get("within", "1d")), self.recent
        left = 0
        for addition in self.of(what["added"], window):
            end, place = addition["ts"] + within, recent.index(addition)
            again = any(self.is_a(e, what["added"]) and e["ts"] <= end for e in recent[place + 1 :])
            bought = any(self.is_a(e, what["bought"]) and addition["ts"] < e["ts"] <= end for e in recent)
            left += self.at >= end and not again and not bought
        values[f"{named('abandoned_carts', entry)}_{window}"] = float(left)

    def put_cart_value(self, values, what, _, entry):
        price, total = self.plan.property(what["price"]).factor, 0
        quantity = self.plan.property(what["quantity"]).factor if "quantity" in what else 1
        for event in self.recent:
            said = event["properties"]
            if self.is_a(event, what["bought"]):
                total = 0
                continue
            sign = self.is_a(event, what["added"]) - ("removed" in what and self.is_a(event, what["removed"]))
            pieces = round(said.get(what.get("quantity"), 1) * quantity)
            total += sign * pieces * round(said.get(what["price"], 0) * price)
        values[named("cart_value", entry)] = float(total) / float(price * quantity)

    def put_trait(self, values, what, _, entry):
        for name in listed(what):
            self.put_last(found := {}, f"identify.{name}", "lifetime", entry)
            values[f"trait_{name}"] = found[f"last_identify_{name}_lifetime"]

    def put_mode(self, values, what, window, entry):
        self.put_first(values, what, window, entry, "mode")

    def put_share(self, values, what, window, entry):
        for name in listed(what):
            texts = self.texts(name, window)
            for value in entry["values"]:
                share = texts.count(value) / len(texts) if texts else NAN
                values[f"share_{name.replace('.', '_')}_{str(value).lower()}_{window}"] = share

    def put_top_share(self, values, what, window, entry):
        for name in listed(what):
            texts = self.texts(name, window)
            counts = sorted([texts.count(value) for value in set(texts)], reverse=True)
            share = sum(counts[: entry["k"]]) / len(texts) if texts else NAN
            values[f"top{entry['k']}_share_{name.replace('.', '_')}_{window}"] = share

    def put_rfm(self, values, what, _, __):
        event, money, window = what["event"], what["money"], what["window"]
        self.put(values, "recency", event, ["s"])
        self.put(values, "count", event, [window])
        self.put(values, "sum", f"{event}.{money}", [window])

    def put_sessions(self, values, what, window, entry):
        mine = self.over(microseconds(what.get("gap", "30m")), window)
        n, length = len(mine), sum(run[-1]["ts"] - run[0]["ts"] for run in mine)
        end = named("", entry) + f"_{window}"
        values[f"sessions{end}"] = float(n)
        values[f"session_minutes{end}"] = float(length) / float(n * 60 * SECOND) if n else NAN
        values[f"session_depth{end}"] = sum(map(len, mine)) / n if n else NAN
        values[f"bounce_share{end}"] = sum(len(run) == 1 for run in mine) / n if n else NAN
        if what.get("pauses"):
            pauses = [b[0]["ts"] - a[-1]["ts"] for a, b in pairwise(mine)]
            mean = float(sum(pauses)) / float(len(pauses) * 60 * SECOND) if pauses else NAN
            values[f"session_pause_minutes{end}"] = mean

    def put_in_session(self, values, what, window, entry):
        end = named("", entry) + f"_{window}"
        mine = self.over(microseconds(what.get("gap", "30m")), window)
        for name in listed(what.get("count", [])):
            total = sum(self.is_a(e, name) for run in mine for e in run)
            values[f"session_count_{name}{end}"] = total / len(mine) if mine else NAN
        for name in listed(what.get("distinct", [])):
            total = sum(self.distinct_in(run, name) for run in mine)
            values[f"session_distinct_{name.replace('.', '_')}{end}"] = total / len(mine) if mine else NAN

    def put_current_session(self, values, what, _, entry):
        gap = microseconds(what.get("gap", "30m"))
        current = [run for run in self.runs(gap) if self.at - run[-1]["ts"] <= gap]
        events = current[0] if current else []
        length = events[-1]["ts"] - events[0]["ts"] if events else 0
        values[named("current_session_minutes", entry)] = float(length) / float(60 * SECOND)
        for name in listed(what.get("count", [])):
            values[named(f"current_session_count_{name}", entry)] = float(sum(self.is_a(e, name) for e in events))
        for name in listed(what.get("distinct", [])):
            values[named(f"current_session_distinct_{name.replace('.', '_')}", entry)] = float(
                self.distinct_in(events, name)
            )

    def put_dwell(self, values, what, window, entry):
        for name in listed(what):
            stays = self.dwell(name, microseconds(entry.get("gap", "30m")), window)
            values[f"dwell_{name}_s_{window}"] = float(sum(stays)) / SECOND

    def put_mean_dwell(self, values, what, window, entry):
        for name in listed(what):
            stays = self.dwell(name, microseconds(entry.get("gap", "30m")), window)
            values[f"mean_dwell_{name}_s_{window}"] = float(sum(stays)) / (len(stays) * SECOND) if stays else NAN

    def kinds_in(self, events, names):
        """Which of the names each event is, the first that fits; the others are passed over."""
        found = [next((name for name in names if self.is_a(e, name)), None) for e in events]
        return [name for name in found if name is not None]

    def moves(self, names, window, entry):
        runs = self.runs(microseconds(entry.get("gap", "30m")), window)
        return [pair for run in runs for pair in pairwise(self.kinds_in(run, names))]

    def put_transitions(self, values, names, window, entry):
        alpha, moves = Fraction(str(entry.get("alpha", 1))), self.moves(names, window, entry)
        for one in names:
            for other in names:
                departures = sum(a == one for a, _ in moves)
                chance = (moves.count((one, other)) + alpha) / (departures + alpha * len(names)) if departures else NAN
                values[named(f"transition_{one}_{other}", entry) + f"_{window}"] = float(chance)

    def put_moves(self, values, names, window, entry):
        moves = self.moves(names, window, entry)
        for one in names:
            for other in names:
                values[named(f"moves_{one}_{other}", entry) + f"_{window}"] = float(moves.count((one, other)))

    def put_entropy(self, values, names, window, entry):
        """In bits, written as (sum of n log n of the wholes - sum of n log n of the parts) / n."""
        kinds, moves = self.kinds_in(self.of("any", window), names), self.moves(names, window, entry)
        entropy = conditional = NAN
        if kinds:
            entropy = (bits([len(kinds)]) - bits([kinds.count(name) for name in names])) / len(kinds)
        if moves:
            departures = [sum(a == name for a, _ in moves) for name in names]
            pairs = [bits([moves.count((one, other)) for other in names]) for one in names]
            conditional = (bits(departures) - added(pairs)) / len(moves)
        values[named("entropy", entry) + f"_{window}"] = entropy
        values[named("transition_entropy", entry) + f"_{window}"] = conditional

    def put_ngrams(self, values, listings, window, entry):
        for names in listings:
            found = 0
            for run in self.runs(microseconds(entry.get("gap", "30m")), window):
                parts = [run[k : k + len(names)] for k in range(len(run) - len(names) + 1)]
                found += sum(all(map(self.is_a, part, names)) for part in parts)
            values[named(f"ngram_{'_'.join(names)}", entry) + f"_{window}"] = float(found)

    def put_patterns(self, values, listings, window, entry):
        for names in listings:
            runs = self.runs(microseconds(entry.get("gap", "30m")), window)
            found = sum(self.passes(run, names) for run in runs)
            values[named(f"pattern_{'_'.join(names)}", entry) + f"_{window}"] = float(found)

    def passes(self, run, names):
        """Whether the events of a run go through all names, in order, each event being one of them at most."""
        rest = iter(run)
        return all(any(self.is_a(event, name) for event in rest) for name in names)

    def put_has_patterns(self, values, listings, window, entry):
        counts = {}
        self.put_patterns(counts, listings, window, entry)
        values |= {f"has_{name}": float(count > 0) for name, count in counts.items()}

    def furthest(self, names, within, window):
        """The most steps that can be taken from any event of the first kind, by the next event of each later kind."""
        events, furthest = self.of("any", window), 0
        for place, start in enumerate(events):
            step = 0
            for event in events[place:]:
                if step < len(names) and event["ts"] <= start["ts"] + within and self.is_a(event, names[step]):
                    step += 1
                elif step == 0:
                    break
            furthest = max(furthest, step)
        return furthest

    def attempts(self, names, within, window):
        """Every attempt that began in the window: the instants of its steps, and whether a newer one took its place.

        Of those that wait for an event the newest goes on, and takes the place of those waiting where it gets to.
        """
        attempts = []
        for event in self.of("any", window):
            for step in reversed(range(len(names))):
                if not self.is_a(event, names[step]):
                    continue
                ready = [a for a in attempts if len(a["steps"]) == step and event["ts"] <= a["steps"][0] + within]
                ready = [a for a in ready if not a["replaced"]][-1:] if step else [{"steps": [], "replaced": False}]
                for attempt in ready:
                    for other in attempts:
                        in_time = event["ts"] <= other["steps"][0] + within
                        if len(other["steps"]) == step + 1 and step + 1 < len(names) and in_time:
                            other["replaced"] = True
                    attempt["steps"].append(event["ts"])
                    attempts += [] if step else [attempt]
        return attempts

    def put_funnel(self, values, names, window, entry):
        within = microseconds(entry["within"])
        called = entry.get("as", f"{names[0]}_{names[-1]}")

        def incomplete(attempts):
            over = [a for a in attempts if len(a["steps"]) < len(names) and self.at >= a["steps"][0] + within]
            return [a["steps"] for a in over if not a["replaced"]][-1:]

        attempts = self.attempts(names, within, window)
        values[f"funnel_furthest_{called}_{window}"] = float(self.furthest(names, within, window))
        dropoff = [float(len(steps) + 1) for steps in incomplete(attempts)]
        values[f"funnel_dropoff_{called}_{window}"] = dropoff[0] if dropoff else NAN
        for step in range(1, len(names)):
            took = [a["steps"][step] - a["steps"][step - 1] for a in attempts if len(a["steps"]) > step]
            values[f"funnel_step_{step + 1}_s_{called}_{window}"] = float(took[-1]) / SECOND if took else NAN
        since = [float(self.at - steps[-1]) / SECOND for steps in incomplete(self.attempts(names, within, None))]
        values[f"funnel_since_incomplete_{called}_s"] = since[0] if since else NAN

    def put_hours(self, values, names, window, entry):
        bands = entry.get("bands", {f"{hour:02}": [hour, hour + 1] for hour in range(24)})
        for name in listed(names):
            hours = [at_home(e).hour for e in self.of(name, window)]
            for band, (begin, end) in bands.items():
                mine = [h for h in hours if (begin <= h < end if begin < end else h >= begin or h < end)]
                values[f"hour_share_{name}_{band}_{window}"] = len(mine) / len(hours) if hours else NAN

    def put_weekdays(self, values, names, window, _):
        for name in listed(names):
            days = [at_home(e).weekday() for e in self.of(name, window)]
            for place, day in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun")):
                values[f"weekday_share_{name}_{day}_{window}"] = days.count(place) / len(days) if days else NAN

    def intervals(self, name, window):
        """Newest first."""
        return [b["ts"] - a["ts"] for a, b in pairwise(self.of(name, window))][::-1]

    def put_mean_interval(self, values, names, window, _):
        for name in listed(names):
            found = self.intervals(name, window)
            values[f"mean_interval_{name}_s_{window}"] = sum(found) / (len(found) * SECOND) if found else NAN

    def put_interval_variation(self, values, names, window, _):
        """By the differences from the newest interval, whose squares are added newest first."""
        for name in listed(names):
            found, variation = self.intervals(name, window), NAN
            if len(found) > 1 and sum(found):
                n, differences = len(found), [interval - found[0] for interval in found]
                squares = sum(float(d) * float(d) for d in differences)
                deviation = sqrt(max(squares / n - (sum(differences) / n) * (sum(differences) / n), 0.0))
                variation = deviation / (sum(found) / n)
            values[f"interval_variation_{name}_{window}"] = variation

    def days(self, name, window):
        return {self.day(e["ts"]) for e in self.of(name, window)}

    def day(self, instant):
        """Days since the epoch, in the project's zone."""
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
        return moment.astimezone(self.zone).toordinal()

    def put_streak(self, values, names, _, __):
        for name in listed(names):
            days, today = self.days(name, None), self.day(self.at)
            last = today if today in days else today - 1
            lengths = [n for n in range(len(days) + 1) if all(last - k in days for k in range(n))]
            values[f"streak_{name}_d"] = float(max(lengths))

    def put_longest_streak(self, values, names, window, _):
        for name in listed(names):
            days = self.days(name, window)
            lengths = [n for first in days for n in range(1, len(days) + 1) if {*range(first, first + n)} <= days]
            values[f"longest_streak_{name}_d_{window}"] = float(max(lengths, default=0))

    def weight(self, event, half_life):
        return exp(-log(2) * (self.at - event["ts"]) / half_life)

    def put_decayed_count(self, values, names, _, entry):
        for name in listed(names):
            weights = [self.weight(e, microseconds(entry["half_life"])) for e in self.of(name, None)]
            values[f"decayed_count_{name}_{entry['half_life']}"] = float(sum(weights))

    def put_decayed_sum(self, values, names, _, entry):
        """Oldest first."""
        for name in listed(names):
            event, prop = name.split(".")
            factor = self.plan.property(prop).factor
            mine = [e for e in self.of(event, None) if e["properties"].get(prop) is not None]
            half_life = microseconds(entry["half_life"])
            total = sum(round(e["properties"][prop] * factor) * self.weight(e, half_life) for e in mine)
            values[f"decayed_sum_{name.replace('.', '_')}_{entry['half_life']}"] = total / factor
