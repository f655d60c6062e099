"""Sessions: runs of events with no long silence between them, and how long each event lasted."""

from itertools import pairwise

from tests.features.behaviour.oracle.history import NAN, SECOND, History, listed, microseconds, named


class Sessions(History):
    """What is told of sessions."""

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
