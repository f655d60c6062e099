"""Moving the alias in the registry is all that a release takes."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest

from experiments.follow import Follower
from experiments.release import DIGEST
from experiments.tracking import CHAMPION, Tracking
from features.project import Project
from tests.patience import within
from tests.serving import shop
from tests.serving.servers import loaded
from tests.serving.test_service import free_port, running
from training.bundle import _write_manifest, current
from training.model import Model

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
        shown(http, "centroids.json was changed", 1.0, tries=600)  # it has to start first
        assert http.get("/v1/model").json()["digest"] == bundle.digest
        slowest, seen = watched(http, lambda: tracking.set_alias("shop", CHAMPION, two), stricter.digest)
        assert seen < within(15), f"it took {seen:.1f} s"
        assert slowest < within(2), f"a request took {slowest:.2f} s"
        _, back = watched(http, lambda: tracking.set_alias("shop", CHAMPION, one), bundle.digest)
        assert back < within(15)


def altered(folder, bundle, **changes):
    """A copy of a bundle under a digest of its own: per file, a change of its JSON, or its text."""
    copy = folder / f"{len(changes)}-{'-'.join(changes)}"
    shutil.copytree(bundle.path, copy)
    for name, change in changes.items():
        file = next(copy.rglob(name.replace("__", ".")))
        document = json.loads(file.read_text()) if file.exists() and file.suffix == ".json" else None
        file.write_text(change if isinstance(change, str) else json.dumps(change(document)))
    return copy, sealed(copy)


def sealed(folder):
    """The digest of a bundle that was altered, written into it."""
    (folder / "bundle.json").unlink()
    _write_manifest(folder, "shop", "9")
    return json.loads((folder / "bundle.json").read_text())["digest"]


def set_to(**more):
    return lambda document: {**document, **more}


SLOW = """
from features import feature

@feature(events="order_completed", windows=["7d"])
def for_ever(user, at):
    return sum(1 for _ in range(5_000_000))
"""


WHY = {
    "missing": "holds no model of ours",
    "corrupt": "features.json was changed",
    "wrong schema": "was trained on the features 0000",
    "no numbers": "no finite table of centres",
    "no numbers of people with a history": "what is no number of some made-up histories",
    "slow": "ms, more than",
}


def bad_bundles(folder, bundle):
    """Per fault, a folder to register and the digest to name."""
    other, wrong = altered(folder, bundle, model__json=set_to(features="0" * 16))
    holes, nan = altered(folder, bundle, centroids__json=lambda each: json.loads(json.dumps(each), parse_float=_nan))
    corrupt = folder / "corrupt"
    shutil.copytree(bundle.path, corrupt)
    (corrupt / "features.json").write_text("{}", encoding="utf-8")
    slow = shop.bundle_in(folder / "slow", version="3", code=SLOW)
    return {
        "corrupt": (corrupt, "1" * 64),
        "wrong schema": (other, wrong),
        "no numbers": (holes, nan),
        "no numbers of people with a history": shrunken(folder, bundle),
        "slow": (slow.path, slow.digest),
    }


def shrunken(folder, bundle):
    """Clusters scaled by next to nothing say numbers of an empty history alone, as their golden row is."""
    copy = folder / "shrunken"
    shutil.copytree(bundle.path, copy)
    model = copy / "models" / "behaviour"
    document = json.loads((model / "model.json").read_text())
    document["preparation"]["steps"][-1]["learned"] = {"middle": [0.0] * 6, "width": [1e-200] * 6}
    (model / "model.json").write_text(json.dumps(document))
    Model.load(model).write_golden(model, np.zeros((1, 6)))
    return copy, sealed(copy)


def _nan(_text):
    return float("nan")


def test_under_load_no_bad_champion_is_served_and_no_request_fails(project, tmp_path):
    """Missing, corrupt, made for other features, without numbers, too slow; the registry away at a poll."""
    bundle, stricter = shop.bundle_in(tmp_path / "one"), shop.bundle_in(tmp_path / "two", version="2", threshold=0.0)
    tracking = Tracking(project)
    good, better = registered(tracking, bundle), registered(tracking, stricter)
    tracking.set_alias("shop", CHAMPION, good)
    follower = Follower(project)
    assert follower.look().changed
    versions = {}
    for fault, (folder, digest) in bad_bundles(tmp_path / "bad", bundle).items():
        run = tracking.start("bundle", search=fault, tags={})
        with tracking.ending(run):
            versions[fault] = tracking.register(run, folder, "shop", tags={DIGEST: digest}).version
    versions["missing"] = tracking.client.create_model_version(
        "shop", str(tmp_path / "nowhere"), tags={DIGEST: "2" * 64}
    ).version
    port = free_port()
    command = [sys.executable, "-m", "console.cli", "serve", "--port", str(port), "-C", str(project.root)]
    with running(command, port, tmp_path) as (http, _), loaded(port) as load:
        for fault, version in versions.items():
            tracking.set_alias("shop", CHAMPION, int(version))
            step = follower.look()
            assert step.fault, fault
            assert not step.changed
            assert WHY[fault] in step.fault, step.fault
            assert http.get("/v1/model").json()["digest"] == bundle.digest
        tracking.set_alias("shop", CHAMPION, better)
        until(http, stricter.digest)
        tracking.set_alias("shop", CHAMPION, int(versions["corrupt"]))
        shown(http, f"champion: version {versions['corrupt']} is refused", 1.0)
        assert http.get("/v1/model").json()["digest"] == stricter.digest
        away = project.root / ".ethogram" / "mlflow.db"
        away.rename(away.with_suffix(".away"))
        away.mkdir()
        time.sleep(6)
        away.rmdir()
        away.with_suffix(".away").rename(away)
        _, seen = watched(http, lambda: tracking.set_alias("shop", CHAMPION, good), bundle.digest)
        assert seen < 30
        shown(http, None, 0.0)
        assert (load.failed, load.answered > 100) == ([], True)


def shown(http, fault, gauge, tries=300):
    """What the service tells of the follower, as soon as it does."""
    for _ in range(tries):
        told = http.get("/v1/model").json()["fault"]
        if (told is None) if fault is None else (fault in (told or "")):
            assert f"ethogram_bundle_unpublished {gauge}" in http.get("/metrics").text
            return
        time.sleep(0.1)
    pytest.fail(f"{told!r} is told")


def test_two_services_of_one_project_follow_together_and_start_while_the_registry_is_away(project, tmp_path):
    bundle, stricter = shop.bundle_in(tmp_path / "one"), shop.bundle_in(tmp_path / "two", version="2", threshold=0.0)
    tracking = Tracking(project)
    one, two = registered(tracking, bundle), registered(tracking, stricter)
    tracking.set_alias("shop", CHAMPION, one)
    assert Follower(project).look().changed
    away = project.root / ".ethogram" / "mlflow.db"
    away.rename(away.with_suffix(".away"))
    away.mkdir()
    ports = free_port(), free_port()
    commands = [
        [sys.executable, "-m", "console.cli", "serve", "--port", str(port), "-C", str(project.root)] for port in ports
    ]
    folders = [tmp_path / str(port) for port in ports]
    for folder in folders:
        folder.mkdir()
    with (
        running(commands[0], ports[0], folders[0]) as (http, _),
        running(commands[1], ports[1], folders[1]) as (other, _),
    ):
        assert http.get("/v1/model").json()["digest"] == bundle.digest
        time.sleep(6)
        away.rmdir()
        away.with_suffix(".away").rename(away)
        time.sleep(8)  # the follower's own start
        with loaded(ports[1]) as load:
            slowest, seen = watched(http, lambda: tracking.set_alias("shop", CHAMPION, two), stricter.digest)
            assert seen < within(15)
            assert slowest < within(2)
            until(other, stricter.digest)
            assert load.failed == []


def until(http, digest):
    for _ in range(400):
        if http.get("/v1/model").json()["digest"] == digest:
            return
        time.sleep(0.1)
    raise AssertionError(http.get("/v1/model").text)


def watched(http: httpx.Client, move, digest):
    """(the slowest answer, seconds until the digest answers), asked all the time; no answer may fail."""
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


def test_a_registry_that_does_not_answer_is_asked_again_soon(project):
    """MLflow's client by itself waits for two minutes, and then tries ever more seldom."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "experiments.follow", str(project.root)]
        follower = subprocess.Popen(command, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, stderr=subprocess.DEVNULL)
        try:
            asked = [silent.accept()[0] for _ in range(3)]
        finally:
            follower.terminate()
            follower.wait(30)
        for each in asked:
            each.close()
