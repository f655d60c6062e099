"""The closed loop on the simulator: what is planted is noticed and mended; where nothing is, nothing changes."""

import os
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from console.circle import DEFINITIONS
from console.passing import Passing
from experiments import release
from experiments.pairs import pairs
from experiments.study import DIGEST, Study
from experiments.tracking import PREVIOUS, Tracking
from experiments.turn import Decision
from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from features.instants import DAY
from features.project import Project
from features.simulate import Shift, Shop
from training.bundle import Bundle, current
from training.model import Model
from training.validation import Ranking

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"
HISTORY, PEOPLE, EVERY = 60, 3000, 3
SEED = int(os.environ.get("ETHOGRAM_CIRCLE_SEED", "20261122"))
FEATURES = """version: 1
features:
  - {count: [any, product_viewed, product_added, cart_viewed, order_completed], windows: [1d, 7d, 30d]}
  - {count: [page_viewed, products_searched, product_list_viewed, scrolled, video_played], windows: [30d]}
  - {recency: [any, product_viewed, product_added, order_completed]}
  - {active_days: any, windows: [7d, 30d]}
"""


def begun(root: Path, days: int, shift: Shift | None, seed: int) -> Passing:
    """A shop with two months of history and a champion learned from them."""
    copytree(SHOP, root)
    (root / "segments.yaml").unlink()
    (root / "features.yaml").write_text(FEATURES, encoding="utf-8")
    (root / "studies.yaml").write_text(DEFINITIONS["studies.yaml"], encoding="utf-8")
    project = Project.find(root)
    passing = Passing.begun(project, Shop(PEOPLE, HISTORY + days, seed, dirt=0, shift=shift), history=HISTORY)
    Study.from_yaml(project, "purchase_7d").run(project)
    release.promote(project)
    return passing


def drawn(seed: int) -> Shift:
    """Day, kind and size of a change that matters, from the seed."""
    random = np.random.default_rng(seed)
    day = HISTORY + int(random.integers(3, 10))
    kind = random.choice(["visits", "buying", "manner"])
    if kind == "visits":
        return Shift(day, visits=float(random.uniform(0.3, 0.5)))
    if kind == "buying":
        return Shift(day, buying=float(random.uniform(2.5, 4)))
    return Shift(day, of=tuple(random.permutation(["searcher", "stroller", "comparer"])[:2]), becomes="bargainer")


def area(y: np.ndarray, p: np.ndarray) -> float:
    return Ranking.of(y, p).roc_auc


def live(passing: Passing, digests: tuple[str, str], since: int) -> dict[str, np.ndarray]:
    """Outcomes of the answers since, and what the two bundles said."""
    project = passing.project
    study = Study.from_yaml(project, "purchase_7d")
    bundle = Bundle.load(project.path("bundles") / digests[0])
    found = pairs(project, EventLog.of(project), bundle, study.name, study.spec, beside=digests[1], since=since)
    return {name: getattr(found, name) for name in ("users", "at", "y", "champion", "challenger")}


def lived(passing: Passing, days: Sequence[int]) -> list[tuple[int, Decision]]:
    """Days go by; every third one the loop takes a turn."""
    decisions = []
    for day in days:
        passing.live(day)
        if day % EVERY == 0:
            decisions.append((day, passing.turn()))
            said = decisions[-1][1]
            print(day, said.headline, said.drift, said.triggers, said.reasons)  # noqa: T201 - of a proof
    return decisions


@pytest.mark.prove
def test_a_planted_change_is_noticed_mended_and_promoted_without_a_failed_request(tmp_path: Path) -> None:
    """Day, kind and size come from the seed; the live ranking comes within 0.02 of an oracle's, retrained that day."""
    shift = drawn(SEED)
    print(shift)  # noqa: T201 - of a proof
    days = 90
    passing = begun(tmp_path / "shop", days, shift, SEED % 1000)
    project = passing.project
    with passing.served():
        decisions, left = list[tuple[int, Decision]](), iter(range(HISTORY, HISTORY + days))
        for day in left:
            decisions += lived(passing, [day])
            if decisions and decisions[-1][1].answer == "promoted":
                break
        answers = [decision.answer for _, decision in decisions]
        assert answers[-1] == "promoted", answers
        promoted = decisions[-1][0]
        noticed = [day for day, decision in decisions if decision.drift == "drift"]
        assert noticed
        assert noticed[0] >= shift.day
        assert "in shadow" in answers
        oracle = Model.load(Study.from_yaml(project, "purchase_7d").run(project).folder)
        new = current(project.path("bundles")).name
        old = Tracking(project).alias(project.name, PREVIOUS).tags[DIGEST]
        lived(passing, list(left)[:14])
    assert passing.failed == []
    rows = live(passing, (new, old), passing.shop.start + (promoted + 1) * DAY)
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    histories = log.histories(features.schema, users=sorted(set(rows["users"])))
    places = {user: place for place, user in enumerate(histories.users)}
    matrix = features.compute(histories.take(np.array([places[user] for user in rows["users"]])), rows["at"])
    told = {"new": rows["champion"], "old": rows["challenger"], "oracle": oracle.score(matrix).probability}
    areas = {name: area(rows["y"], p) for name, p in told.items()}
    means = {name: float(p.mean() - rows["y"].mean()) for name, p in told.items()}
    print(f"noticed on day {noticed[0]}, promoted on day {promoted}; {len(rows['y'])} rows; {areas}; {means}")  # noqa: T201
    assert areas["new"] > areas["oracle"] - 0.02
    assert abs(means["new"]) < abs(means["old"])


@pytest.mark.prove
def test_where_nothing_is_planted_nothing_is_promoted_in_ninety_days(tmp_path: Path) -> None:
    passing = begun(tmp_path / "shop", 90, None, SEED % 1000)
    with passing.served():
        decisions = lived(passing, range(HISTORY, HISTORY + 90))
    assert passing.failed == []
    assert len(decisions) == 30
    assert [decision.headline for _, decision in decisions if decision.answer == "promoted"] == []
    assert sum(bool(decision.studied) for _, decision in decisions) >= 6  # it did look for something better
