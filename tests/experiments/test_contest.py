"""Contest: a challenger on live traffic, before a promotion and after it, through a real service."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import numpy as np
import pytest

from console.passing import Passing
from experiments import release
from experiments.contest import Contest, Look
from experiments.course import Course, Status, say
from experiments.pairs import Pairs
from experiments.policy import Policy
from experiments.study import DIGEST, Study
from experiments.tracking import CHALLENGER, CHAMPION, Tracking
from features.instants import DAY
from features.project import Project
from features.simulate import Shop
from tests.experiments.test_policy import fought
from training.bundle import current

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"
HISTORY, DAYS = 40, 20
FEATURES = """version: 1
features:
  - {count: [any, scrolled, product_added, order_completed], windows: [1d, 7d, 30d]}
  - {recency: [any, product_added]}
"""
STUDIES = """version: 1
studies:
  purchase_3d:
    kind: propensity
    predicts: {did: order_completed, within: 3d}
    population: {did: any, within: 30d}
    features: [count_scrolled_30d]
    cuts: {every: 3d, last: 6}
    search: {trials: 1, seed: 7}
"""
POLICY = """version: 1
triggers: {every: never, drift: false}
recalibrate: false
shadow: {at_least: 1d, outcomes: 60}
watch: 2d
approval: person
"""


def test_a_gain_whose_ranking_is_not_told_apart_is_looked_at_again_with_twice_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ethogram.yaml").write_text("version: 1\nname: shop\n", encoding="utf-8")
    ended: list[object] = []
    monkeypatch.setattr(release, "beside", lambda _project, made: ended.append(made))

    def turned(course: Course, days: int, ranking: tuple[float, float]) -> tuple[str, Course]:
        """A turn when outcomes of so many days of answers are known."""
        at, y = np.array([days * DAY]), np.repeat([0.0, 1.0], 200)
        found = Pairs(400, 400, np.empty(0, object), at, y, y, y)
        duels = (fought(log_loss=(-0.03, -0.01), roc_auc=ranking),)
        monkeypatch.setattr(Contest, "judged", lambda _self: Look(duels, (found,)))
        log, champion = SimpleNamespace(span=lambda: (0, (days + 7) * DAY)), SimpleNamespace(digest="c")
        decision, after = Contest(Project.find(tmp_path), log, champion, {}, Policy(), course).turned(print)  # type: ignore[arg-type]
        return decision.answer, after

    course, either = Course("shadow", 0, "c", None, "d", ("buys",)), (-0.01, 0.02)
    answer, once = turned(course, 9, either)
    assert (answer, once.looks) == ("waiting", (9 * DAY,))
    answer, same = turned(once, 17, (0.01, 0.03))
    assert (answer, same) == ("waiting", once)  # nothing is decided between two looks
    answer, twice = turned(once, 18, either)
    assert (answer, twice.looks) == ("kept", ())  # a third look would be past the shadow's end
    assert ended == [None]
    assert turned(once, 18, (-0.03, -0.02))[0] == "kept"


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passing]:
    """A shop in its service, whose champion knows one feature that says nothing."""
    root = tmp_path_factory.mktemp("contest") / "shop"
    copytree(SHOP, root)
    (root / "segments.yaml").unlink()
    for name, text in (("features", FEATURES), ("studies", STUDIES), ("loop", POLICY)):
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    project = Project.find(root)
    shop = Shop(users=2500, days=HISTORY + DAYS, seed=31, dirt=0)
    passing = Passing.begun(project, shop, history=HISTORY)
    Study.from_yaml(project, "purchase_3d").run(project)
    release.promote(project, force=True)
    (root / "studies.yaml").write_text(STUDIES.replace("    features: [count_scrolled_30d]\n", ""), encoding="utf-8")
    with passing.served():
        yield passing


@pytest.mark.integration
def test_a_better_challenger_waits_for_outcomes_and_a_person_and_is_rolled_back_where_it_turns_out_worse(
    passing: Passing,
) -> None:
    project, tracking = passing.project, Tracking(passing.project)
    days = iter(range(HISTORY, HISTORY + DAYS))
    weak = release.served(project)

    def until(*answers: str) -> str:
        """Days go by until the loop says one of these."""
        for day in days:
            passing.live(day)
            decision = passing.turn()
            assert decision.answer in (*answers, "waiting"), str(decision)
            if decision.answer in answers:
                return str(decision)
        raise AssertionError(f"the days are over, and none of {answers} was said")

    first = passing.turn(force=True)
    assert first.answer == "in shadow", str(first)
    assert current(project.path("bundles")).name != current(project.path("bundles"), "CHALLENGER").name
    say(project, "pause", "a holiday")
    assert passing.turn().answer == "paused"
    say(project, "resume", "")
    told = until("approval needed")
    assert "the challenger is better" in told
    assert release.served(project) == weak
    assert "approval since" in str(Status.of(project))
    say(project, "approve", "figures hold")
    promoted = passing.turn()
    assert promoted.answer == "promoted", str(promoted)
    assert any("figures hold" in reason for reason in promoted.reasons)
    assert release.served(project) == {"purchase_3d": 2}
    assert passing.runtime.release().bundle.digest == tracking.alias(project.name, CHAMPION).tags[DIGEST]
    assert passing.runtime.challengers.current.bundle.version == "1"  # the one before goes on in the shadow
    assert "not worse" in until("confirmed")
    assert tracking.alias(project.name, CHALLENGER) is None

    # somebody promotes the weak one by hand, as if it had been the loop: the watch goes back by itself
    strong = tracking.alias(project.name, CHAMPION)
    release.rollback(project)
    release.beside(project, strong)
    passing.runtime.releases.look()
    passing.runtime.challengers.look()
    course = Course("watching", Course.of(project).since, "", strong.version, strong.tags[DIGEST], ("purchase_3d",))
    champion = current(project.path("bundles")).name
    replace(course, champion=champion, since=passing.runtime.now()).keep(project)
    assert "is better, so it is served again" in until("rolled back")
    assert release.served(project) == {"purchase_3d": 2}
    assert passing.runtime.release().bundle.digest == strong.tags[DIGEST]
    assert passing.failed == []
    runs = tracking.runs("loop")
    decided = {run.tags["ethogram.decision"] for run in runs}
    assert {"in shadow", "paused", "approval needed", "promoted", "confirmed", "rolled back", "approve"} <= decided
    assert any(run.metrics.get("purchase_3d.outcomes", 0) >= 60 for run in runs)


@pytest.mark.integration
def test_a_veto_takes_the_challenger_back(passing: Passing) -> None:
    project = passing.project
    Course().keep(project)
    release.rollback(project)
    passing.turn(force=True)
    assert Course.of(project).phase == "shadow"
    say(project, "veto", "not before Christmas")
    vetoed = passing.turn()
    assert vetoed.answer == "vetoed"
    assert "not before Christmas" in vetoed.reasons[0]
    assert Tracking(project).alias(project.name, CHALLENGER) is None
    assert passing.runtime.challengers.current is None
    assert Course.of(project).phase == "resting"
