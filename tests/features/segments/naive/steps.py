"""Steps: a sequence, by every way to give its steps their events."""

from tests.features.behaviour.oracle import microseconds
from tests.features.segments.naive.logic import both, either, test


class Steps:
    """One sequence over the events that it may look at."""

    def __init__(self, naive, said, events):
        self.naive, self.said, self.at = naive, said, naive.at
        self.everything = naive.recent
        self.same = [said["same"]] if isinstance(said.get("same"), str) else said.get("same", [])
        self.allowed = {id(e) for e in events}
        self.positive = [k for k, step in enumerate(said["steps"]) if "not" not in step and least(step)]

    def takes(self, event, step):
        """Whether it is an event of a step and lies in the step's window."""
        return id(event) in self.windows[id(step)] and self.naive.is_a(event, step)

    def truth(self):
        combinations, steps = {}, [step.get("not", step) for step in self.said["steps"]]
        if any(self.naive.windowed(step) is None for step in steps):
            return None
        self.windows = {id(step): {id(event) for event in self.naive.windowed(step)} for step in steps}
        for anchor, event in enumerate(self.everything):
            if id(event) in self.allowed and self.takes(event, self.said["steps"][0]):
                key = tuple(event["properties"].get(name) for name in self.same)
                if None not in key:
                    combinations.setdefault(key, []).append(anchor)
        return either(self.combination(key, anchors) for key, anchors in combinations.items())

    def combination(self, key, anchors):
        mine = [
            k for k, e in enumerate(self.everything) if tuple(e["properties"].get(name) for name in self.same) == key
        ]
        judged = []
        for anchor in anchors:
            found = list(self.ways(anchor, self.usable(anchor, mine)))
            if found:
                way = min(found, key=lambda way: (way[-1], *[-k for k in reversed(way[:-1])]))
                judged.append(self.judge(anchor, way, mine))
        match = self.said.get("match", "last")
        if not judged:
            return False
        return either(judged) if match == "any" else judged[0] if match == "first" else judged[-1]

    def session(self, k):
        """The places of the events in the same session."""
        for run in self.naive.runs():
            if any(each is self.everything[k] for each in run):
                return {place for place, each in enumerate(self.everything) if any(each is other for other in run)}
        raise AssertionError

    def usable(self, anchor, mine):
        if self.said.get("scope") == "session":
            mine = [k for k in mine if k in self.session(anchor)]
        return [k for k in mine if k >= anchor]

    def ts(self, k):
        return self.everything[k]["ts"]

    def ways(self, anchor, mine, way=()):
        """Every way to give each positive step the event that completes it; a step that cannot be met ends the try."""
        if len(way) == len(self.positive):
            yield way
            return
        step = self.said["steps"][self.positive[len(way)]]
        for k in mine:
            if self.takes(self.everything[k], step) and self.reaches(len(way), (*way, k), anchor, mine):
                yield from self.ways(anchor, mine, (*way, k))

    def reaches(self, place, way, anchor, mine):
        step, k = self.said["steps"][self.positive[place]], way[place]
        start = anchor - 1 if place == 0 else way[place - 1]
        if k <= start:
            return False
        matching = [each for each in mine if start < each <= k and self.takes(self.everything[each], step)]
        n = least(step)
        if len(matching) < n or (place == 0 and len(matching) != n):
            return False
        serving = matching[-n:]
        if step.get("immediately"):
            begins = start + 1 if place else anchor
            if serving != list(range(begins, k + 1)) or k != begins + n - 1:
                return False
        first = place == 0 or step.get("of") == "first"
        if "within" in step and self.ts(k) > self.ts(anchor if first else way[place - 1]) + microseconds(
            step["within"]
        ):
            return False
        if "max_duration" in self.said and self.ts(k) > self.ts(anchor) + microseconds(self.said["max_duration"]):
            return False
        between = self.said["steps"][self.positive[place - 1] + 1 : self.positive[place]] if place else []
        for absent in between:
            if absent.get("until_next"):
                came = [e for e in mine if start < e < k and self.takes(self.everything[e], absent["not"])]
                if len(came) >= least(absent["not"]):
                    return False
        return True

    def judge(self, anchor, way, mine):
        mine = self.usable(anchor, mine)
        verdicts = []
        for place, step in enumerate(self.said["steps"]):
            before = [w for p, w in zip(self.positive, way, strict=True) if p < place]
            if "not" in step:
                if not step.get("until_next"):
                    verdicts.append(self.absence(step["not"], least(step["not"]), step, anchor, before, mine))
            elif most(step) is not None:
                verdicts.append(self.absence(step, most(step) + 1, step, anchor, before, mine))
        return both(verdicts)

    def absence(self, kind, n, step, anchor, before, mine):
        since = before[-1] if before and step.get("of") != "first" else anchor
        start = since if "not" in step else before[-1] if before else anchor - 1
        dues = []
        if "within" in step:
            dues.append(self.ts(since) + microseconds(step["within"]))
        elif self.said.get("scope") != "session":
            dues.append(self.ts(anchor) + microseconds(self.said["max_duration"]))
        came = [k for k in mine if k > start and self.takes(self.everything[k], kind)]
        came = [k for k in came if all(self.ts(k) <= due for due in dues)]
        if len(came) >= n:
            return False
        if self.said.get("scope") == "session":
            dues.append(self.ts(max(self.session(anchor))) + self.naive.gap + 1)
        return None if self.at < min(dues) else True


def bounds(step):
    count = step.get("count", {"gte": 1})
    count = count if isinstance(count, dict) else {"eq": count}
    passing = [n for n in range(60) if test(n, count)]
    return min(passing), None if 59 in passing else max(passing)


def least(step):
    return bounds(step)[0]


def most(step):
    return bounds(step)[1]
