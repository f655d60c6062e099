"""Settings that every test shares."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve each other on a busy machine

settings.register_profile("quick", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")


def _ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("ETHOGRAM_")}


GIVEN = _ours()


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """No command that ran inside a test says, through the environment, where the next one's project is."""
    yield
    left = {name: value for name, value in _ours().items() if GIVEN.get(name) != value}
    for name in left:
        os.environ.pop(name)
    assert not left, "these stayed in the environment of every test that follows"
