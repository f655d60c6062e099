"""The bundle is fitted once."""

import pytest

from tests.serving import shop


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return shop.bundle_in(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def plan(bundle):
    return shop.TrackingPlan.read(bundle.path / "plan.yaml")


@pytest.fixture
def published(bundle, tmp_path):
    """Settings of a service whose bundles folder has the bundle."""
    from training.bundle import publish

    settings = shop.settings_in(tmp_path)
    publish(bundle.path, settings.bundles)
    return settings
