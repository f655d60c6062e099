"""Gates: what a model must show before it is promoted, and what happens where it does not."""

import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.loop import run_once
from experiments.release import promote
from experiments.studies import Gates
from experiments.study import Study
from experiments.tracking import Tracking
from features.errors import BundleError
from tests.experiments import projects
from training.validation import METRICS, Estimate, Figures

FIGURES = Figures(100, 0.2, {name: Estimate(0.7, 0.6, 0.8) for name in METRICS}, {})
GAPS = {
    "rule: recency": {"roc_auc": Estimate(0.02, 0.01, 0.03)},
    "random forest": {"roc_auc": Estimate(0.02, 0.0, 0.03)},
}


@pytest.mark.parametrize(
    ("gates", "failed"),
    [
        ({}, 0),
        ({"roc_auc": 0.59, "average_precision": 0.59, "brier": 0.7, "log_loss": 0.7, "calibration_error": 0.7}, 0),
        ({"roc_auc": 0.6}, 1),
        ({"average_precision": 0.6}, 1),
        ({"brier": 0.69}, 1),
        ({"log_loss": 0.69, "calibration_error": 0.69}, 2),
        ({"beats": ["rule"]}, 0),
        ({"beats": ["rule", "random forest"]}, 1),
    ],
)
def test_the_low_end_of_an_interval_must_stand_above_and_a_loss_must_not_be_larger(gates, failed):
    assert len(list(Gates.from_dict(gates).failed(FIGURES, GAPS))) == failed


def test_a_model_that_fails_is_registered_and_promoted_only_by_force(tmp_path):
    search = "search: {trials: 4, seed: 3}"
    strict = projects.FILES["studies.yaml"].replace(search, f"gates: {{roc_auc: 0.95}}\n    {search}")
    project = projects.make(tmp_path / "shop", studies_yaml=strict)
    result = Study.from_yaml(project, "buys_7d").run(project)
    assert result.version == 1
    assert "does not stand above 0.95" in str(result)
    with pytest.raises(BundleError, match=r"buys_7d version 1 fails its gates: ROC-AUC .* does not stand above 0\.95"):
        promote(project)
    decision = run_once(project, force=True)
    assert decision.versions.get("buys_7d") is None
    assert any("not to be promoted" in str(each) for each in decision.studied)
    forced = CliRunner().invoke(app, ["promote", "--force", "-C", str(project.root), "--model", "buys_7d=1"])
    assert forced.exit_code == 0, forced.output
    assert "forced: buys_7d version 1 fails its gates" in forced.stdout
    champion = Tracking(project).alias("shop", "champion")
    assert "does not stand above 0.95" in champion.tags["ethogram.forced"]
