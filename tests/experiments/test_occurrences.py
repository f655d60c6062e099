"""The long table of events against the features' oracle, for settled logs and for any others."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.occurrences import Occurrences
from features.instants import DAY, HOUR, MINUTE
from tests.features.behaviour.oracle import known_events
from tests.features.behaviour.shop import histories
from tests.features.behaviour.test_laws import SPRING, logs


@given(logs(), logs(), st.sampled_from([SPRING, SPRING + 2 * DAY, SPRING + 30 * DAY]))
def test_every_event_is_there_once_and_in_order_as_it_was_known(first, second, at):
    people = {"ann": first, "bob": second}
    both = [{**event, "user": user} for user, log in people.items() for event in log]
    held = histories(both)
    found = Occurrences.of(held, at, properties=["revenue"])
    wanted = [
        (user, e["ts"], e["event"], e["properties"].get("revenue"))
        for user in held.users
        for e in known_events(people[user], at)
        if e["ts"] <= at
    ]
    revenue = [None if np.isnan(each) else each for each in found.values["revenue"].tolist()]
    names = [found.names[place] for place in found.event]
    assert list(zip(found.users[found.person], found.ts.tolist(), names, revenue, strict=True)) == wanted


def test_sessions_begin_after_silence_and_hours_are_local():
    monday = datetime(2026, 3, 30, 23, 30, tzinfo=UTC)  # a Monday
    start = int(monday.timestamp()) * 1_000_000
    times = [0, 30 * MINUTE, 60 * MINUTE + 1, 2 * HOUR]
    log = [{"event": "page_viewed", "ts": start + t, "until": None, "offset": 60, "properties": {}} for t in times]
    found = Occurrences.of(histories(log), start + DAY)
    assert found.first_of_session.tolist() == [True, False, True, True]
    local = monday.astimezone(timezone(timedelta(hours=1)))
    assert found.hour_of_week.tolist()[0] == 24 * local.weekday() + local.hour == 24


@pytest.mark.parametrize("settled", [True, False])
def test_settled_histories_need_no_settling(settled):
    log = [{"event": "page_viewed", "ts": SPRING + n, "until": None, "properties": {}} for n in range(5)]
    held = histories(log)
    assert held.settled
    assert len(Occurrences.of(replace(held, settled=settled), SPRING + 2)) == 3
