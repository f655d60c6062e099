"""Rhythm: local hours and weekdays are those of the clock that the event came with."""

import math

import pytest

from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError
from features.instants import DAY, parse_instant
from tests.features.behaviour.shop import CODES, PLAN, histories

SUNDAY = parse_instant("2026-03-01T23:30:00")
ENTRY = {"hours": "any", "bands": {"night": [22, 6], "morning": [6, 12]}, "weekdays": "any", "windows": ["7d"]}


BEFORE_THE_EPOCH = parse_instant("1969-12-28T23:30:00")


def shares(entry: dict, offsets: list[int], sunday: int = SUNDAY) -> dict[str, float]:
    features = FeatureSet.from_dict({"features": [entry]}, PLAN, CODES, zone="Asia/Tokyo")
    log = [{"event": "page_viewed", "ts": sunday, "offset": offset} for offset in offsets]
    values = features.compute(histories(log, features), sunday + DAY).values[0].tolist()
    return {
        name.removeprefix("hour_share_any_").removesuffix("_7d"): v
        for name, v in zip(features.names, values, strict=True)
    }


@pytest.mark.parametrize("sunday", [SUNDAY, BEFORE_THE_EPOCH])
def test_the_events_own_offset_decides_not_the_projects_zone(sunday: int) -> None:
    found = shares(ENTRY, [0, 60, -480, -480], sunday)
    assert (found["night"], found["morning"]) == (0.5, 0)
    assert (found["weekday_share_any_sun"], found["weekday_share_any_mon"]) == (0.75, 0.25)


def test_without_bands_there_is_a_share_of_every_hour() -> None:
    found = shares({"hours": "any", "windows": ["7d"]}, [0, 30, 60, -450])
    assert len(found) == 24
    assert {hour: share for hour, share in found.items() if share} == {"23": 0.25, "00": 0.5, "16": 0.25}


def test_nobody_came_so_every_share_is_missing() -> None:
    features = FeatureSet.from_dict({"features": [ENTRY]}, PLAN, CODES)
    one = histories([{"event": "page_viewed", "ts": SUNDAY}], features)
    assert all(map(math.isnan, features.compute(one, SUNDAY + 8 * DAY).values[0]))


def test_an_hour_is_one_of_the_day() -> None:
    with pytest.raises(DefinitionError, match="less than or equal to 24"):
        shares({**ENTRY, "bands": {"late": [20, 25]}}, [0])
