"""Small logs made in the tests, as occurrences and as plain lists."""

import numpy as np

from experiments.occurrences import Occurrences
from features.instants import DAY, MINUTE, parse_instant

START = parse_instant("2026-01-05")  # a Monday
NAMES = ("look", "add", "pay", "leave")


def happenings(n_users=60, seed=1, days=70):
    """{user: [(ts, name)]}: bursts of events, some a moment apart, some after exactly half an hour."""
    random = np.random.default_rng(seed)
    log = {}
    for user in range(n_users):
        ts, events = START + int(random.integers(0, 20 * DAY)), []
        while ts < START + days * DAY and len(events) < 12:
            events.append((ts, NAMES[random.choice(4, p=[0.5, 0.25, 0.15, 0.1])]))
            ts += int(random.choice([0, 1, MINUTE, 30 * MINUTE, 30 * MINUTE + 1, DAY, 9 * DAY]))
        log[f"u{user}"] = events if user % 9 else []
    return log


def occurrences(log):
    """The same as a long table, two hours east of Greenwich."""
    rows = [(person, ts, NAMES.index(name)) for person, events in enumerate(log.values()) for ts, name in events]
    person, ts, event = np.array(rows, np.int64).reshape(-1, 3).T
    users = np.array(list(log), dtype=object)
    return Occurrences(users, person, ts, event, ts + 120 * MINUTE, NAMES, {})


def halves(log):
    """The log in two buckets."""
    users = list(log)
    return [{user: log[user] for user in users[part::2]} for part in (0, 1)]


def sessions(events):
    """Runs without a silence of more than half an hour."""
    runs = []
    for event in events:
        if runs and event[0] - runs[-1][-1][0] <= 30 * MINUTE:
            runs[-1].append(event)
        else:
            runs.append([event])
    return runs
