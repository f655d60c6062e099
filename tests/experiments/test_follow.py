"""Moving the alias in the registry is all that a release takes."""

import shutil
import sys
import time

import httpx
import pytest

from experiments.follow import Follower
from experiments.release import DIGEST
from experiments.tracking import CHAMPION, Tracking
from features.project import Project
from tests.serving import shop
from tests.serving.test_service import free_port, running
from training.bundle import current

pytestmark = pytest.mark.integration


def registered(tracking, bundle):
    """A bundle as a version of the project's registered model."""
    run = tracking.start("bundle", search=bundle.digest[:16], tags={})
    with tracking.ending(run):
        tags = {DIGEST: bundle.digest, "ethogram.models": "purchase_7d=1"}
        return tracking.register(run, bundle.path, "shop", tags=tags).version


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "ethogram.yaml").write_text("version: 1\nname: shop\n", encoding="utf-8")
    return Project.find(folder)


def test_the_alias_alone_decides_what_is_served(project, tmp_path):
    bundle = shop.bundle_in(tmp_path / "one")
    stricter = shop.bundle_in(tmp_path / "two", version="2", threshold=0.0)
    tracking = Tracking(project)
    follower = Follower(project)
    assert follower.look().version is None
    one, two = registered(tracking, bundle), registered(tracking, stricter)
    tracking.set_alias("shop", CHAMPION, one)
    assert follower.look().changed
    assert current(project.path("bundles")).name == bundle.digest
    assert not follower.look().changed

    damaged = shop.bundle_in(tmp_path / "damaged", version="9")
    copy = tmp_path / "copy"
    shutil.copytree(damaged.path, copy)
    (copy / "models" / "behaviour" / "centroids.json").write_text("{}", encoding="utf-8")
    run = tracking.start("bundle", search="damaged", tags={})
    with tracking.ending(run):
        bad = tracking.register(run, copy, "shop", tags={DIGEST: damaged.digest}).version
    tracking.set_alias("shop", CHAMPION, bad)
    step = follower.look()
    assert (step.changed, follower.look()) == (False, step)
    assert "centroids.json was changed" in step.fault
    assert current(project.path("bundles")).name == bundle.digest

    port = free_port()
    command = [sys.executable, "-m", "console.cli", "serve", "--port", str(port), "-C", str(project.root)]
    with running(command, port, tmp_path) as (http, _):
        assert http.get("/v1/model").json()["digest"] == bundle.digest
        slowest, seen = watched(http, lambda: tracking.set_alias("shop", CHAMPION, two), stricter.digest)
        assert seen < 15, f"it took {seen:.1f} s"
        assert slowest < 2, f"a request took {slowest:.2f} s"
        _, back = watched(http, lambda: tracking.set_alias("shop", CHAMPION, one), bundle.digest)
        assert back < 15


def watched(http: httpx.Client, move, digest):
    """(the slowest answer, seconds until the digest answers), asked all the time; no answer may fail."""
    time.sleep(8)  # the follower's own start
    move()
    begun, slowest = time.monotonic(), 0.0
    while time.monotonic() - begun < 30:
        asked = time.monotonic()
        reply = http.post("/v1/segments", json={"user_id": "ann"})
        slowest = max(slowest, time.monotonic() - asked)
        assert reply.status_code == 200
        if reply.json()["bundle"]["digest"] == digest:
            break
        time.sleep(0.02)
    return slowest, time.monotonic() - begun
