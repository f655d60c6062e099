"""Compiled kernels: cached where it is safe, seen when edited, and imported only when needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import features
from features.behaviour import compiled
from features.behaviour.carry import fold_carry
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.kernel import run
from features.behaviour.lifetime import boundary_of
from features.instants import DAY
from tests.features.behaviour.shop import CODES, FEATURES, PLAN, histories


def fresh(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The code in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(Path(features.__file__).parents[1]), **environment}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)


def test_importing_features_does_not_import_numba() -> None:
    names = "Codes, EventBatch, FeatureMatrix, FeatureSet, Histories, Project, StateSchema, TrackingPlan"
    heavy = "('numba', 'pandas', 'sklearn', 'xgboost', 'mlflow')"
    done = fresh(
        f"import sys, features; from features import {names}; sys.exit(any(m in sys.modules for m in {heavy}))"
    )
    assert done.returncode == 0, done.stderr


def test_an_edit_in_any_kernel_changes_the_caches_folder(tmp_path: Path) -> None:
    for file in Path(compiled.__file__).parent.glob("*.py"):
        shutil.copy(file, tmp_path)
    before = compiled.digest(tmp_path)
    gather = tmp_path / "gather.py"
    gather.write_text(gather.read_text() + "\n# an edit\n")
    assert compiled.digest(tmp_path) != before


def test_a_copy_of_the_sources_finds_the_machine_code_of_the_original(tmp_path: Path) -> None:
    """A Bento holds a copy; were it compiled anew, its first start would take half a minute."""
    package = Path(compiled.__file__).parents[1]
    code = (
        "from features.behaviour.kernel import all_families as k\n"
        "print(k._cache.cache_path, k._cache._impl.filename_base, k._cache._impl.locator.get_source_stamp())"
    )
    places = []
    for root in (package.parent, tmp_path):
        if root is tmp_path:
            shutil.copytree(package, tmp_path / "features", ignore=shutil.ignore_patterns("__pycache__"))
        done = fresh(code, PYTHONPATH=str(root), NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert done.returncode == 0, done.stderr
        places.append(done.stdout)
    assert places[0] == places[1]
    assert places[0].startswith(str(tmp_path / "cache"))


def test_without_a_writable_folder_a_warning_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "_writable", lambda folder: False)
    with pytest.warns(RuntimeWarning, match="set NUMBA_CACHE_DIR to a writable folder"):
        assert compiled.cache_folder(tmp_path) is None


def test_every_plan_runs_the_same_machine_code() -> None:
    few = FeatureSet.from_dict({"features": [{"count": "any", "windows": ["1d"]}]}, PLAN, CODES)
    one = histories([{"event": "page_viewed", "ts": 20_000 * DAY}], few)
    few.compute(one, 20_000 * DAY)
    FEATURES.compute(histories([{"event": "page_viewed", "ts": 20_000 * DAY}]), np.array([20_000 * DAY]))
    states = Histories.from_states(few.schema, ["ann", "bob"], [one.state(0), b""])
    FeatureSet.load(few.to_dict()).compute(states, 20_000 * DAY)
    few.compute(fold_carry(states, 10 * DAY), 20_000 * DAY)
    assert len(run.signatures) == 1


def test_the_carrys_boundary_is_a_midnight() -> None:
    assert boundary_of(20_000 * DAY, 90 * DAY) == 19_910 * DAY
    assert boundary_of(20_000 * DAY - 1, 90 * DAY) == 19_909 * DAY
