import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from features.errors import BundleError
from tests.training.shops import day, feature_set, histories
from tests.training.test_trees import booster, rows
from training.bundle import Bundle, current, publish
from training.model import Model
from training.preparation import Preparation
from training.trees import Forest

FEATURES = feature_set()


def model(folder, study="purchase_7d", names=("count_viewed_7d", "recency_any_s"), fingerprint=FEATURES.fingerprint):
    """A propensity model over the hand-made shop's features."""
    x, y = rows(300, len(names), 3)
    text = booster(x, y, 5, max_depth=2).save_raw("json").decode()
    made = Model(study, "propensity", fingerprint, Preparation(tuple(names)), Forest.from_json(text))
    made.save(folder, trees=text)
    made.write_golden(folder, x[:8].astype(np.float64))
    return folder


@pytest.fixture
def bundle(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("version: 1\nevents: {}\n")
    models = {study: model(tmp_path / study, study) for study in ("purchase_7d", "churn_30d")}
    return Bundle.write(tmp_path / "b", name="shop", version="1", features=FEATURES, models=models, plan=plan)


def test_a_bundle_scores_histories_with_every_model(bundle):
    events = [("u1", "viewed", day(1)), ("u1", "viewed", day(2)), ("u2", "bought", day(2))]
    scores = Bundle.load(bundle.path, verify=True).score(histories(events, FEATURES), day(3))
    assert set(scores) == {"purchase_7d", "churn_30d"}
    matrix = FEATURES.compute(histories(events, FEATURES), day(3))
    assert np.array_equal(scores["purchase_7d"].probability, bundle.models["purchase_7d"].score(matrix).probability)


def test_the_same_content_has_the_same_digest_and_another_version_another(bundle, tmp_path):
    def again(version):
        models = {study: tmp_path / study for study in bundle.models}
        folder = tmp_path / f"again-{version}-{len(list(tmp_path.iterdir()))}"
        return Bundle.write(
            folder, name="shop", version=version, features=FEATURES, models=models, plan=tmp_path / "plan.yaml"
        )

    assert again("1").digest == again("1").digest == bundle.digest
    assert again("2").digest != bundle.digest


def test_every_changed_byte_is_refused(bundle, tmp_path):
    files = sorted(path.relative_to(bundle.path) for path in bundle.path.rglob("*") if path.is_file())
    assert {"bundle.json", "features.json", "plan.yaml", "trees.json", "golden.json"} <= {file.name for file in files}
    for file in files:
        copy = tmp_path / "copy"
        shutil.copytree(bundle.path, copy)
        content = bytearray((copy / file).read_bytes())
        for place in {0, len(content) // 3, len(content) - 1}:
            changed = bytearray(content)
            changed[place] ^= 1
            (copy / file).write_bytes(changed)
            with pytest.raises(BundleError):
                Bundle.load(copy)
        shutil.rmtree(copy)


def test_a_missing_and_an_added_file_are_named(bundle):
    (bundle.path / "models" / "note.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"note\.txt was added"):
        Bundle.load(bundle.path)
    (bundle.path / "models" / "note.txt").unlink()
    (bundle.path / "models" / "churn_30d" / "golden.json").unlink()
    with pytest.raises(BundleError, match=r"churn_30d/golden\.json is missing"):
        Bundle.load(bundle.path)


def test_a_model_of_other_features_is_refused_and_leaves_nothing_behind(tmp_path):
    other = model(tmp_path / "m", fingerprint="0" * 16)
    with pytest.raises(BundleError, match="Hint: `ethogram study run purchase_7d`"):
        Bundle.write(tmp_path / "b", name="shop", version="1", features=FEATURES, models={"purchase_7d": other})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_publishing_moves_the_pointer_in_one_step_and_back_again(bundle, tmp_path):
    bundles = tmp_path / "bundles"
    assert current(bundles) is None
    first = publish(bundle.path, bundles)
    second = Bundle.write(
        tmp_path / "b2", name="shop", version="2", features=FEATURES, models={"purchase_7d": tmp_path / "purchase_7d"}
    )
    publish(second.path, bundles)
    assert current(bundles) == bundles / second.digest
    assert (bundles / "CURRENT").read_text().strip() == second.digest
    assert publish(bundle.path, bundles) == first == current(bundles)
    assert {path.name for path in bundles.iterdir()} == {"CURRENT", bundle.digest, second.digest}


def test_a_bundle_under_another_digest_is_refused_before_anything_of_it_is_read(bundle):
    assert Bundle.load(bundle.path, digest=bundle.digest).digest == bundle.digest
    with pytest.raises(BundleError, match="the folder 000000000000 holds the bundle"):
        Bundle.load(bundle.path, digest="0" * 64)


def test_an_altered_bundle_is_not_published(bundle, tmp_path):
    (bundle.path / "plan.yaml").write_text("version: 1\nevents: {a: {}}\n")
    with pytest.raises(BundleError, match=r"plan\.yaml was changed"):
        publish(bundle.path, tmp_path / "bundles")
    assert current(tmp_path / "bundles") is None


def test_a_pointer_to_nowhere_says_so(tmp_path):
    (tmp_path / "CURRENT").write_text("abc\n")
    with pytest.raises(BundleError, match="Hint: `ethogram promote`"):
        current(tmp_path)


def test_there_is_no_pickle_and_loading_needs_no_training_library(bundle):
    names = {path.suffix for path in bundle.path.rglob("*") if path.is_file()}
    assert names <= {".json", ".yaml", ".lock", ".parquet"}
    program = f"""
import sys
for name in ("xgboost", "sklearn", "pandas", "mlflow", "optuna", "evidently", "matplotlib", "pickle5", "joblib"):
    sys.modules[name] = None
from training.bundle import Bundle
print(Bundle.load({str(bundle.path)!r}, verify=True).digest)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == bundle.digest == json.loads((bundle.path / "bundle.json").read_text())["digest"]
