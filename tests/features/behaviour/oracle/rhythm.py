"""Rhythm: the clock, the calendar, the times between events, and how they fade."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import exp, log, sqrt

from tests.features.behaviour.oracle.history import NAN, SECOND, History, listed, microseconds


def at_home(event):
    """By the clock of where the event happened."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=event["ts"], minutes=event["offset"])


class Rhythm(History):
    """What is told of when things happen."""

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
