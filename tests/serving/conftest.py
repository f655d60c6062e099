"""The bundle is fitted once; tests of the door run on asyncio."""

import pytest

from tests.serving import shop
from training.bundle import publish


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return shop.bundle_in(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def stricter(tmp_path_factory):
    """Another bundle over the same schema: another threshold, version 2."""
    return shop.bundle_in(tmp_path_factory.mktemp("stricter"), version="2", threshold=0.0)


@pytest.fixture(scope="session")
def wider(tmp_path_factory):
    """A bundle over another schema, version 3."""
    more = {"version": 1, "features": [*shop.FEATURES["features"], {"sum": "product_viewed.price", "windows": ["7d"]}]}
    return shop.bundle_in(tmp_path_factory.mktemp("wider"), version="3", definitions=more)


@pytest.fixture(scope="session")
def plan(bundle):
    return shop.TrackingPlan.read(bundle.path / "plan.yaml")


@pytest.fixture
def published(bundle, tmp_path):
    """Settings of a service whose bundles folder has the bundle."""
    settings = shop.settings_in(tmp_path)
    publish(bundle.path, settings.bundles)
    return settings


@pytest.fixture
def anyio_backend():
    return "asyncio"
