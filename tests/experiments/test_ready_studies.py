"""The example's ready studies on a simulated shop that is old enough for all of them."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from console.cli import app

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"


def ran(*words: str) -> dict:
    answer = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven months of a small shop; of half as many people two dozen would buy more, too few to tell anything."""
    root = tmp_path_factory.mktemp("ready")
    ran("simulate", str(root / "data"), "--users", "4000", "--days", "210", "--seed", "31", "--format", "parquet")
    copytree(SHOP, root / "shop")
    studies = root / "shop" / "studies.yaml"
    studies.write_text(studies.read_text().replace("trials: 12", "trials: 3"))
    for file in sorted((root / "data" / "events").iterdir()):
        ran("ingest", str(file), "-C", str(root / "shop"))
    return root / "shop"


@pytest.mark.integration
@pytest.mark.parametrize(("name", "least"), [("churn_30d", 0.6), ("upsell_30d", 0.55), ("high_value_90d", 0.6)])
def test_a_ready_study_tells_more_than_chance_and_its_label_ends_before_the_next_part(
    shop: Path, name: str, least: float
) -> None:
    result = ran("study", "run", name, "-C", str(shop))
    assert result["figures"]["model"]["roc_auc"]["low"] > least
    assert 0.01 < result["metrics"]["test_base_rate"] < 0.99
    cuts = result["training_set"]["cuts"]
    assert max(cuts["train"]) < min(cuts["validation"] or cuts["test"])
