"""The simulator's shop on a seed that nothing was tuned on: how near to the planted chance, and how well calibrated."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from experiments.propensities import Asked
from experiments.study import Study
from features.events.log import EventLog
from features.project import Project
from features.simulate import Shop, write_shop
from features.simulate.people import FIRST_LEVEL, People, draw_people
from features.simulate.propensity import order_chance
from features.simulate.types import ACTIONS, END, LEVELS, START, TYPES
from features.simulate.visits import CARTED, IDLE, MOVES, ORDERED, VISITED, Visits, simulate_visits
from training.propensity import area, calibrate
from training.validation import Ranking

SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"
RATES = 16
"""Own rates of visits that the filter holds possible, of each person."""


def likelihoods(shop: Shop, people: People, visits: Visits) -> np.ndarray:
    """How likely each session's actions are at each level of interest, as logarithms: shape (n_sessions, LEVELS)."""
    log = np.log(np.maximum(shop.chains[0], 1e-300))
    before = np.full(len(visits.action), START)
    same = visits.session[1:] == visits.session[:-1]
    before[1:][same] = visits.action[:-1][same]
    found, last = np.zeros((len(visits.person), LEVELS)), np.full(len(visits.person), START)
    kind = people.kind[visits.person]
    for level in range(LEVELS):
        np.add.at(found[:, level], visits.session, log[kind[visits.session], level, before, visits.action])
    last[visits.session] = visits.action
    return found + log[kind[:, None], np.arange(LEVELS), last[:, None], END]


def best_guess(shop: Shop, people: People, visits: Visits, cut: int) -> np.ndarray:
    """The chance of an order in the week after `cut` as far as anybody can know: over interest and own rate."""
    random, n = np.random.default_rng(0), len(people)
    own = np.array([each.visits for each in TYPES])[people.kind][:, None]
    rates = own * (0.15 + 0.85 * np.quantile(random.gamma(4.0, 0.25, 200_000), (np.arange(RATES) + 0.5) / RATES))
    told, post = likelihoods(shop, people, visits), np.zeros((n, RATES, LEVELS))
    ended = {what: np.zeros(len(visits.person), bool) for what in ("order_completed", "product_added")}
    for what, sessions in ended.items():
        sessions[visits.session[visits.action == ACTIONS.index(what)]] = True
    for day in range(cut):
        born, here, today = people.arrival == day, people.arrival <= day, visits.day == day
        post[born] = np.array(FIRST_LEVEL) / RATES
        count, said = np.zeros(n), np.zeros((n, LEVELS))
        np.add.at(count, visits.person[today], 1)
        np.add.at(said, visits.person[today], told[today])
        rate = rates[:, :, None] * shop.traffic(day)[people.kind][:, None, :]
        likely = (count - born)[:, None, None] * np.log(rate) - rate + said[:, None, :]
        best = np.full(n, IDLE)
        best[visits.person[today]] = VISITED
        best[visits.person[today & ended["product_added"]]] = CARTED
        best[visits.person[today & ended["order_completed"]]] = ORDERED
        after = np.einsum("ngl,nlk->ngk", post * np.exp(likely - likely.max(axis=(1, 2), keepdims=True)), MOVES[best])
        post[here] = (after / np.maximum(after.sum(axis=(1, 2), keepdims=True), 1e-300))[here]
    return sum(
        post[:, rate, level] * order_chance(shop, replace(people, rate=rates[:, rate]), np.full(n, level), cut)
        for rate in range(RATES)
        for level in range(LEVELS)
    )


@pytest.mark.integration
def test_a_propensity_comes_near_to_what_can_be_known_and_says_true_probabilities(tmp_path: Path) -> None:
    shop = Shop(users=12_000, days=60, seed=8101)
    write_shop(shop, tmp_path / "raw", format="parquet")
    project = Project.find(copytree(SHOP, tmp_path / "shop"))
    log = EventLog.of(project)
    for file in sorted((tmp_path / "raw" / "events").iterdir()):
        log.ingest(file)
    study = Study.from_yaml(project, "purchase_7d")
    rows = study.rows(project)
    noise = np.random.default_rng(1).normal(size=(len(rows), 5))
    names = (*rows.matrix.names, *(f"noise_{k}" for k in range(5)))
    matrix = replace(rows.matrix, values=np.column_stack([rows.matrix.values, noise]), names=names)
    rows = replace(rows, matrix=matrix)
    declared = {**study.spec.model_dump(mode="json", exclude_none=True), "select": {"share": 0.6, "halves": 6}}
    spec = Study.from_dict({"name": "purchase_7d", **declared}).spec
    asked = Asked("purchase_7d", spec, study.searcher(tmp_path / "journal"))
    model = asked.learned(rows, names).model  # alone: neither rivals nor intervals are needed here
    assert not set(model.preparation.names) & {f"noise_{k}" for k in range(5)}
    judged = rows.split_by_time()[2]

    cut = int(rows.matrix.at.max() - shop.start) // 86_400_000_000
    guesses, chances = {}, {}
    for low, high in shop.chunks:
        people = draw_people(shop, low, high)
        visits = simulate_visits(shop, people)
        guesses |= dict(zip(people.user_ids, best_guess(shop, people, visits, cut), strict=True))
        level = np.maximum(visits.levels[cut], 0).astype(np.int64)
        chances |= dict(zip(people.user_ids, order_chance(shop, people, level, cut), strict=True))
    known = np.array([user in guesses for user in judged.matrix.users])
    assert known.mean() > 0.7  # the others never signed in
    y, p = judged.y[known], model.probabilities(judged.matrix)[known]
    users = judged.matrix.users[known]
    guess, chance = (np.array([each[user] for user in users]) for each in (guesses, chances))
    ours, best, ceiling = (Ranking.of(y, each).roc_auc for each in (p, guess, chance))
    assert ours > best - 0.02, (ours, best, ceiling)
    assert best < ceiling
    slope = calibrate("platt", np.log(p / (1 - p)).astype(np.float32), y).slope
    assert 0.9 < slope < 1.1, slope
    assert area(y, p) == ours
