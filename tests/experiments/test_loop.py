"""Loop: when it studies, what it promotes, and one whole circle through the command line."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.course import Course
from experiments.drift import DriftReport, Sample
from experiments.duel import Duel
from experiments.loop import State, _drift, _rested, _triggers, decide
from experiments.policy import Policy
from experiments.turn import Decision, Studied
from features.instants import DAY
from training.validation import METRICS, Estimate

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"


def fought(study: str, low: float, high: float) -> Duel:
    """A duel whose ROC-AUC differs by something between `low` and `high`, and nothing else does."""
    nothing = {metric: Estimate(0.5, 0.4, 0.6) for metric in METRICS}
    apart = {metric: Estimate(0.0, -0.1, 0.1) for metric in METRICS}
    return Duel(study, 0, 900, 900, 90, nothing, nothing, {**apart, "roc_auc": Estimate((low + high) / 2, low, high)})


def studied(*names: str, version: int | None = 2) -> list[Studied]:
    return [Studied(name, version, "beats the baseline", "r") for name in names]


BETTER, WORSE, SAME = fought("a", 0.01, 0.03), fought("b", -0.03, -0.01), fought("a", -0.01, 0.01)


@pytest.mark.parametrize(
    ("duels", "names", "held", "same_features", "answer"),
    [
        ([], ["a", "b"], [], True, "promoted"),
        ([BETTER], ["a"], ["a"], True, "promoted"),
        ([SAME], ["a"], ["a"], True, "kept"),
        ([BETTER, WORSE], ["a", "b"], ["a", "b"], True, "promoted"),
        ([BETTER, WORSE], ["a", "b"], ["a", "b"], False, "kept"),
        ([BETTER], ["a"], ["a"], False, "promoted"),
        ([SAME], ["a", "c"], ["a"], True, "promoted"),
        ([WORSE], ["b"], ["b"], True, "kept"),
    ],
)
def test_what_is_better_or_new_is_promoted(
    duels: list[Duel], names: list[str], held: list[str], same_features: bool, answer: str
) -> None:
    assert decide(duels, studied(*names), held=held, same_features=same_features)[0] == answer


def test_a_refused_result_is_never_promoted_and_is_named() -> None:
    answer, reasons = decide([], studied("a", version=None), held=[])
    assert answer == "kept"
    assert "a gives nothing to promote" in reasons[0]


def test_a_decision_prints_its_numbers_and_reasons() -> None:
    decision = Decision("kept", ("asked for",), ("no drift",), tuple(studied("a")), (SAME,), ("stays",), "no drift", {})
    assert all(text in str(decision) for text in ("loop: kept", "asked for", "a: version 2", "roc_auc", "stays"))
    assert decision.metrics()["a.roc_auc.low"] == -0.01
    assert json.loads(json.dumps(decision.to_dict(), allow_nan=False))["duels"][0]["verdict"] == "no difference shown"
    assert "stays" in decision.to_html()


NOW = 100 * DAY


def state(studied_days_ago: list[int], *, said: dict[str, object] | None = None, changed: bool = False) -> State:
    """What a turn of day 100 starts from, where studies were run so long ago."""
    features = SimpleNamespace(fingerprint="f")
    champion = SimpleNamespace(features=features, models={})
    log = SimpleNamespace(span=lambda: (0, NOW))
    declared = SimpleNamespace(project=None, log=log, features=features, of_log={})
    made = State(declared, champion, Policy.from_dict(said or {}), Course())  # type: ignore[arg-type]
    course = Course(studied=tuple(NOW - days * DAY for days in studied_days_ago))
    return replace(made, course=replace(course, definitions="others" if changed else made.definitions))


@pytest.mark.parametrize(
    ("days_ago", "said", "changed", "drift", "n_triggers"),
    [
        ([3], {}, False, "no drift", 0),
        ([3], {}, False, "drift", 0),  # cooling down
        ([3], {}, True, "drift", 1),  # definitions changed
        ([3], {"cool_down": "2d"}, False, "drift", 1),
        ([8], {}, False, "no drift", 1),  # the schedule
        ([8], {}, False, "drift", 2),
        ([8], {"triggers": {"every": "never"}}, False, "no drift", 0),
        ([8], {"triggers": {"every": "never", "drift": False}}, False, "drift", 0),
    ],
)
def test_schedule_and_drift_start_studies_unless_it_is_cooling_down(
    days_ago: list[int], said: dict[str, object], changed: bool, drift: str, n_triggers: int
) -> None:
    assert len(_triggers(state(days_ago, said=said, changed=changed), drift, force=False)) == n_triggers
    assert len(_triggers(state(days_ago, said=said, changed=changed), drift, force=True)) == n_triggers + 1


@pytest.mark.parametrize(("unchecked", "drift"), [("", "drift"), ("no live answer", None)])
def test_drift_starts_no_study_while_the_replay_check_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, unchecked: str, drift: str | None
) -> None:
    found = DriftReport(Sample(500, 500), Sample(500, 500), (), absent=("visits",), unchecked=unchecked)
    assert found.verdict == "drift"
    assert any("before drift is blamed" in action for action in found.actions[:1]) == bool(unchecked)
    seen = SimpleNamespace(report=found, files={"page": Path("drift.html")})
    monkeypatch.setattr("experiments.loop.watch", lambda *_, **__: seen)
    began = state([8], said={"triggers": {"every": "never"}})
    told, notes = _drift(began, lambda _: None)
    assert told == drift
    assert any("while the replay check cannot be made: no live answer" in note for note in notes) == bool(unchecked)
    assert len(_triggers(began, told, force=False)) == (0 if unchecked else 1)


def test_a_spent_budget_or_a_pipeline_at_fault_studies_nothing() -> None:
    spent = state([8, 9, 10], said={"budget": {"studies": 3, "within": "30d"}})
    decision, course = _rested(spent, "drift", force=True, say=print)
    assert (decision.answer, course) == ("nothing to do", spent.course)
    assert decision.reasons == ("the budget is spent: 3 studies within 30d",)
    assert state([31, 9, 10], said={"budget": {"studies": 3, "within": "30d"}}).left == 1
    decision, _ = _rested(state([8]), "pipeline fault", force=True, say=print)
    assert decision.answer == "nothing to do"
    assert "at fault" in decision.reasons[0]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated shop's project with its events ingested and small searches."""
    root = tmp_path_factory.mktemp("loop")
    ran("simulate", str(root / "data"), "--users", "2500", "--days", "60", "--seed", "23")
    copytree(SHOP, root / "shop")
    studies = root / "shop" / "studies.yaml"
    text = studies.read_text().replace("trials: 12", "trials: 2").replace("trials: 10", "trials: 2")
    studies.write_text(text.replace("k: [3, 8]", "k: [3, 4]"))
    ran("ingest", *map(str, sorted((root / "data" / "events").iterdir())), "-C", str(root / "shop"))
    return root / "shop"


def ran(*words: str) -> str:
    answer = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def turned(shop: Path, *words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(ran("loop", "run", "--once", "-C", str(shop), "--json", *words))
    return found


@pytest.mark.integration
def test_one_circle_releases_rests_and_replaces_a_weaker_champion(shop: Path) -> None:
    """First release; nothing to do; a champion that knows one feature only loses against one that knows all."""
    studies = shop / "studies.yaml"
    whole = studies.read_text()
    weak = "population: {did: any, within: 30d}\n    features: [count_scrolled_30d]\n    cuts: {every"
    studies.write_text(whole.replace("population: {did: any, within: 30d}\n    cuts: {every", weak))
    first = turned(shop)
    assert (first["answer"], first["triggers"]) == ("promoted", ["nothing is published yet"])
    assert first["versions"] == {"purchase_7d": 1, "behaviour": 1}
    unready = [each["study"] for each in first["studied"] if each["verdict"].startswith("it cannot be run")]
    assert unready == ["churn_30d", "upsell_30d", "high_value_90d"]  # sixty days tell nothing of what takes longer
    calm = turned(shop)
    assert (calm["answer"], calm["studied"]) == ("nothing to do", [])
    assert "drift could not be judged" in calm["notes"][0]
    (shop / "loop.yaml").write_text("version: 1\nshadow: off\n")
    studies.write_text(whole)
    second = turned(shop, "--force")
    assert second["answer"] == "promoted", second["reasons"]
    assert second["versions"] == {"purchase_7d": 2, "behaviour": 1}
    assert second["duels"][0]["verdict"] == "better"
    assert Path(second["files"]["page"]).stat().st_size > 1000
    third = turned(shop, "--force")
    assert (third["answer"], third["versions"]) == ("kept", {})
