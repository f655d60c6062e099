"""The oracle of training sets: who is a row as of when, and what came of it, from a plain list of events.

It imports nothing of the product: what was known when is the features' oracle's, everything else is written here.
"""

from tests.features.behaviour.oracle import DAY, known_events, microseconds

MODEL_TRAINING = 4


def plain(events):
    """Dictionaries from the tuples of `shops.frame`, as the features' oracle wants them."""
    found = []
    for place, each in enumerate(events):
        user, event, ts, more = (*each, {})[:4]
        found.append(
            {
                "user": user,
                "event": event,
                "ts": ts,
                "known": more.get("known", ts),
                "until": more.get("until"),
                "id": more.get("id", place + 1),
                "seq": more.get("seq", place),
                "consent": more.get("consent"),
                "properties": {"revenue": more["revenue"]} if "revenue" in more else {},
            }
        )
    return found


def willing(events):
    """Persons whose last word allows model training; who said nothing is asked for nothing."""
    said = {}
    for e in sorted(events, key=lambda e: (e["ts"], e["seq"], e["id"])):
        if e["consent"] is not None and (e["until"] is None or e["known"] < e["until"]):
            said[e["user"]] = e["consent"]
    return {e["user"] for e in events if said.get(e["user"], 7) & MODEL_TRAINING}


def happened(mine, name, at, window, *, known):
    """Events of a name in the window that ends at `at`, of those known by `known`."""
    seen = [e for e in known_events(mine, known) if e["ts"] <= at and name in ("any", e["event"])]
    return [e for e in seen if window is None or e["ts"] > at - microseconds(window)]


def number(mine, label, at, blind_spot):
    """What the label compares, as of `at` + H."""
    if "in_cluster" in label:
        end = at + microseconds(label["after"])
        counts = [len(happened(mine, name, end, "7d", known=end + blind_spot)) for name in ("viewed", "bought")]
        gaps = [sum((c - x) ** 2 for c, x in zip(counts, centre, strict=True)) for centre in label["centres"]]
        return float(gaps.index(min(gaps)) in label["in_cluster"])
    if "in_segment" in label:
        end = at + microseconds(label["after"])
        views = len(happened(mine, "viewed", end, "7d", known=end + blind_spot))
        return float(2 <= views < 5 and not happened(mine, "bought", end, "3d", known=end + blind_spot))
    end = at + microseconds(label["within"])
    name = label.get("did") or label.get("did_not") or label["value"].split(".")[0]
    events = happened(mine, name, end, label["within"], known=end + blind_spot)
    if "value" in label:
        return sum(round(100 * e["properties"].get("revenue", 0)) for e in events) / 100
    return float(len(events))


def labelled(numbers, label, train):
    """{row: number} to {row: label}; a top share is cut on the rows of `train`."""
    if "did_not" in label:
        return {row: float(n == 0) for row, n in numbers.items()}
    if "value" in label and "above" not in label and "top_share" not in label:
        return numbers
    limit = label.get("above", 0.0)
    if "top_share" in label:
        values = sorted(numbers[row] for row in train)
        limit = next(v for v in values if sum(w <= v for w in values) >= (1 - label["top_share"]) * len(values))
    return {row: float(n > limit) for row, n in numbers.items()}


def anchors(events, name, span, *, every, last, embargo):
    """{(user, at): part} of every event of a name; `embargo` or `incomplete` where it is no row."""
    end = (span[1] - embargo) // DAY * DAY
    found = {}
    for user in {e["user"] for e in events}:
        mine = [e for e in events if e["user"] == user and (e["until"] is None or e["known"] < e["until"])]
        for copies in ([e for e in mine if e["id"] == one] for one in {e["id"] for e in mine if e["event"] == name}):
            first = min(copies, key=lambda e: (e["known"], e["ts"]))
            at = max(first["known"], first["ts"])
            taken_back = any(e["until"] is not None and e["until"] <= at for e in copies)
            if at <= end - last * every or taken_back:
                continue
            age = end - at  # how long before the end of the newest complete instant
            if age < 0:
                part = "incomplete"
            elif age < every:
                part = "test"
            elif every + embargo <= age < 2 * every + embargo:
                part = "validation"
            elif age >= 2 * every + 2 * embargo:
                part = "train"
            else:
                part = "embargo"
            found[user, at] = part
    return found
