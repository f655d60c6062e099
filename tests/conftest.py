"""Settings that every test shares."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from experiments.tracking import Tracking
from training import baselines

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve each other on a busy machine

LONG = ("test_demo", "test_tables", "test_follow", "test_reliability", "test_online_retail", "test_bounds")
LONG += ("test_contest", "test_contract", "test_studies", "test_loop", "test_kinds", "test_ready_studies")
"""Files of the integration suite that take longest, longest first: workers that begin with them end together."""

settings.register_profile("quick", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, all else as it was."""
    place = {stem: at for at, stem in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


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


@pytest.fixture(autouse=True, scope="session")
def migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow takes every new SQLite file through some fifty migrations; the first one's outcome is copied."""
    template, property_ = tmp_path_factory.getbasetemp() / "mlflow.db", vars(Tracking)["client"]
    made = property_.func

    def client(self: Tracking) -> object:
        file = Path(self.uri.removeprefix("sqlite:///"))
        new = self.uri.startswith("sqlite:///") and not file.exists()
        if new and template.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(template, file)
        found = made(self)
        if new and not template.exists():
            shutil.copyfile(file, template)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(property_, "func", client)
        yield


@pytest.fixture(autouse=True, scope="session")
def small_forests(request: pytest.FixtureRequest) -> Iterator[None]:
    """But for proofs, the forest that studies are compared with has a quarter of its trees."""
    proving = any(item.get_closest_marker("prove") for item in request.session.items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "TREES", baselines.TREES if proving else 25)
        yield
