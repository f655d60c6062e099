"""Times become microseconds UTC: local clocks, epochs, texts with and without their zone."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.clocks import Clock, offset_minutes, to_utc
from features.instants import from_datetime, parse_instant

ZONES = st.sampled_from(["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
LOCAL = st.datetimes(datetime.fromisoformat("2001-01-01"), datetime.fromisoformat("2037-01-01"))


@given(LOCAL, ZONES)
def test_local_times_follow_zoneinfo_with_the_first_of_two_and_the_clock_before_a_gap(local, zone):
    expected = from_datetime(local.replace(tzinfo=ZoneInfo(zone), fold=0))
    naive = from_datetime(local.replace(tzinfo=UTC))
    assert to_utc(np.array([naive]), zone)[0] == expected
    offset = datetime.fromtimestamp(expected / 1e6, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    assert offset_minutes(np.array([expected]), zone)[0] == offset // timedelta(minutes=1)


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2011-03-27T00:59:59", "2011-03-27T00:59:59"),
        ("2011-03-27T01:30:00", "2011-03-27T01:30:00"),  # skipped: the clock went from 01:00 to 02:00
        ("2011-03-27T02:00:00", "2011-03-27T01:00:00"),
        ("2011-10-30T01:30:00", "2011-10-30T00:30:00"),  # shown twice
        ("2011-10-30T02:00:00", "2011-10-30T02:00:00"),
    ],
)
def test_london_changes_its_clocks(local, utc):
    read = Clock(zone="Europe/London").read(pl.Series([local]))
    assert read["ts"].to_list() == [parse_instant(utc)]


@given(LOCAL, st.integers(-14 * 60, 14 * 60))
def test_a_text_with_its_own_offset_is_read_to_the_microsecond(local, minutes):
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    row = Clock().read(pl.Series([moment.isoformat()])).row(0)
    assert row == (from_datetime(moment), minutes, None)


@pytest.mark.parametrize("text", ["1767225600", "1767225600000", "1767225600000000", "1767225600.0"])
def test_epochs_are_told_apart_by_their_size(text):
    assert Clock().read(pl.Series([text]))["ts"].to_list() == [parse_instant("2026-01-01")]
    assert Clock().read(pl.Series([float(text)]))["ts"].to_list() == [parse_instant("2026-01-01")]


def test_typed_columns_are_taken_as_they_are():
    moments = pl.Series([datetime.fromisoformat("2026-07-01T12:00:00")])
    assert Clock().read(moments)["ts"].to_list() == [parse_instant("2026-07-01T12:00:00Z")]
    assert Clock(zone="Europe/London").read(moments)["ts"].to_list() == [parse_instant("2026-07-01T11:00:00Z")]
    zoned = moments.dt.replace_time_zone("America/New_York")
    assert Clock().read(zoned).select("ts", "offset").row(0) == (parse_instant("2026-07-01T16:00:00Z"), -240)
    assert Clock().read(moments.dt.date())["ts"].to_list() == [parse_instant("2026-07-01")]


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-01-01T25:00:00", "1e30", "NaN", None])
def test_what_is_no_time_says_so(text):
    assert Clock().read(pl.Series([text], dtype=pl.String))["reason"].to_list() == ["bad_timestamp"]


def test_a_format_may_name_the_zone_itself():
    read = Clock(format="%d/%b/%Y:%H:%M:%S %z").read(pl.Series(["17/May/2015:10:05:03 +0200"]))
    assert read.row(0) == (parse_instant("2015-05-17T08:05:03Z"), 120, None)
