"""The service's clock can be set, so that the past is replayed with the service that answers the present."""

import time
from pathlib import Path

import pytest

from features.errors import DefinitionError
from features.instants import SECOND, parse_instant
from serving.runtime import Runtime
from serving.settings import Settings


def test_a_service_with_a_clock_lives_at_that_instant_and_its_clock_runs_on(tmp_path: Path) -> None:
    given = {"ETHOGRAM_HOME": str(tmp_path), "ETHOGRAM_KEY": "secret", "ETHOGRAM_CLOCK": "2026-05-01T12:00:00Z"}
    runtime = Runtime(Settings.from_environment(given))
    first = runtime.now()
    time.sleep(0.01)
    assert 0 <= first - parse_instant("2026-05-01T12:00:00Z") < 5 * SECOND
    assert runtime.arrival() >= first + 10_000


def test_a_clock_that_is_no_instant_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="ISO 8601"):
        Settings.from_environment({"ETHOGRAM_HOME": str(tmp_path), "ETHOGRAM_KEY": "k", "ETHOGRAM_CLOCK": "noon"})
