"""Figures of the events of a window: numbers, categories, days, and how long ago."""

from datetime import UTC, datetime, timedelta
from math import sqrt

from tests.features.behaviour.oracle.history import NAN, SECOND, History, listed


class Figures(History):
    """What one pass over a window gives."""

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

    def put(self, values, kind, name, windows):
        for window in windows:
            if kind in ("recency", "tenure"):
                value = getattr(self, kind)(name)
            elif kind in ("distinct", "active_days"):
                value = getattr(self, kind)(name, window)
            else:
                value = self.total(kind, name, window)
            values[f"{kind}_{name.replace('.', '_')}_{window}"] = value

    def put_first(self, values, what, window, entry, kind="first"):
        for name in listed(what):
            category = "values" in entry
            value = self.category(kind, name, window, entry["values"]) if category else self.total(kind, name, window)
            values[f"{kind}_{name.replace('.', '_')}_{window}"] = value

    def put_last(self, values, what, window, entry):
        self.put_first(values, what, window, entry, "last")

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
