import json

from typer.testing import CliRunner

from console.cli import app
from features.errors import DefinitionError, EthogramError


def run(*arguments):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_a_shop_is_written_and_its_figures_are_printed(tmp_path):
    done = run(tmp_path / "shop", "--users", 400, "--days", 20, "--seed", 3, "--live")
    assert done.exit_code == 0, done.output
    assert "ROC-AUC between" in done.output
    assert "planted:" in done.output
    assert {path.name for path in (tmp_path / "shop").iterdir()} == {"events", "truth", "live"}
    assert (tmp_path / "shop/live/outcomes.csv").read_text().startswith("user,variant,converted,revenue,sessions")


def test_json_is_one_document(tmp_path):
    done = run(tmp_path, "--users", 100, "--days", 9, "--format", "parquet", "--shift-day", 4, "--json")
    figures = json.loads(done.output)
    assert figures["planted"]["people"] == 100
    assert figures["difficulty"]["n"] > 0
    assert (tmp_path / "events/shop-0000.parquet").exists()


def test_a_shop_that_cannot_be_is_an_error_for_the_user(tmp_path):
    done = run(tmp_path, "--users", 0)
    assert isinstance(done.exception, DefinitionError)
    assert not list(tmp_path.iterdir())


def test_a_change_without_its_day_is_an_error_for_the_user(tmp_path):
    assert "--shift-day" in str(run(tmp_path, "--shift-price", 2).exception)


def test_a_folder_that_cannot_be_written_is_an_error_for_the_user(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file", "--users", 10, "--days", 2)
    assert isinstance(done.exception, EthogramError)


def test_an_earlier_larger_shop_leaves_nothing_behind(tmp_path):
    (tmp_path / "events").mkdir()
    (tmp_path / "events/shop-0007.ndjson").write_text("{}")
    assert run(tmp_path, "--users", 10, "--days", 2).exit_code == 0
    assert [path.name for path in (tmp_path / "events").iterdir()] == ["shop-0000.ndjson"]
