import json
import subprocess
import sys

import numpy as np
import pytest

from features.errors import BundleError
from tests.training.matrices import matrix
from tests.training.test_trees import booster, rows
from training.assigner import Centroids
from training.calibration import Calibration
from training.model import Model
from training.preparation import Preparation
from training.steps import fit
from training.trees import Forest


def propensity(folder):
    """A small propensity model in `folder`, and rows to score."""
    x, y = rows(400, 4, 1)
    trees = booster(x, y, 10).save_raw("json").decode()
    preparation = Preparation(("f0", "f1", "f2", "f3"))
    model = Model(
        "purchase_7d", "propensity", "f" * 16, preparation, Forest.from_json(trees), Calibration("platt", 1.2, 0.1), 0.4
    )
    model.save(folder, trees=trees)
    model.write_golden(folder, x[:20].astype(np.float64))
    return model, matrix(x)


def clusters(folder):
    """A small cluster model in `folder`, and rows to score."""
    values = np.random.default_rng(2).gamma(2, 3, (60, 2))
    preparation = fit(matrix(values), ["log", "standardise"])
    head = Centroids(np.array([[-1.0, 0.0], [1.0, 1.0]]))
    model = Model("behaviour", "clusters", "f" * 16, preparation, head, names=("seldom", "often"), ids=(1, 2))
    model.save(folder)
    model.write_golden(folder, values[:20])
    return model, matrix(values)


@pytest.mark.parametrize("make", [propensity, clusters])
def test_a_loaded_model_scores_the_same_bits(make, tmp_path):
    model, data = make(tmp_path / "m")
    loaded = Model.load(tmp_path / "m", verify=True)
    before, after = model.score(data), loaded.score(data)
    assert np.array_equal(before.column(), after.column())
    assert after.row(3) == before.row(3)
    assert json.loads(json.dumps(after.row(3))) == after.row(3)


def test_columns_are_found_by_name_in_a_wider_matrix(tmp_path):
    model, data = propensity(tmp_path / "m")
    wide = matrix(np.column_stack([data.values[:, ::-1], data.values[:, 0]]), ["f3", "f2", "f1", "f0", "other"])
    assert np.array_equal(model.score(wide).column(), model.score(data).column())


def test_another_feature_set_is_refused(tmp_path):
    model, data = propensity(tmp_path / "m")
    with pytest.raises(BundleError, match="Hint: `ethogram study run purchase_7d`"):
        model.score(matrix(data.values, fingerprint="0" * 16))


@pytest.mark.parametrize("make", [propensity, clusters])
def test_golden_rows_that_come_out_differently_are_refused(make, tmp_path):
    make(tmp_path / "m")
    file = tmp_path / "m" / "golden.json"
    golden = json.loads(file.read_text())
    name = next(name for name in golden if name in ("probability", "distances"))
    golden[name] = (np.array(golden[name]) + 1e-9).tolist()
    file.write_text(json.dumps(golden))
    Model.load(tmp_path / "m")
    with pytest.raises(BundleError, match=f"another {name}"):
        Model.load(tmp_path / "m", verify=True)


@pytest.mark.parametrize("file", ["model.json", "trees.json"])
def test_a_missing_or_broken_file_is_named(file, tmp_path):
    propensity(tmp_path / "m")
    (tmp_path / "m" / file).write_text("{")
    with pytest.raises(BundleError, match="JSON"):
        Model.load(tmp_path / "m")
    (tmp_path / "m" / file).unlink()
    with pytest.raises(BundleError, match=f"{file} is missing"):
        Model.load(tmp_path / "m")


def test_loading_and_scoring_need_no_training_library(tmp_path):
    propensity(tmp_path / "m")
    clusters(tmp_path / "c")
    program = f"""
import sys
for name in ("xgboost", "sklearn", "pandas", "mlflow", "optuna", "evidently", "matplotlib"):
    sys.modules[name] = None
import numpy as np
from training.model import Model
for folder in ("m", "c"):
    model = Model.load({str(tmp_path)!r} + "/" + folder, verify=True)
    print(len(model.score_values(np.zeros((3, len(model.preparation.names))))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "3"]


@pytest.mark.parametrize(
    "calibration",
    [Calibration(), Calibration("platt", 0.7, -0.2), Calibration("isotonic", x=(-2.0, 0.0, 3.0), y=(0.1, 0.1, 0.8))],
)
def test_calibrations_rise_stay_within_0_and_1_and_survive_json(calibration):
    margins = np.linspace(-900, 900, 2_001, dtype=np.float32)
    values = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))).probability(margins)
    assert np.array_equal(values, calibration.probability(margins))
    assert (np.diff(values) >= 0).all()
    assert values.min() >= 0
    assert values.max() <= 1
