"""A project folder with a log whose truth is known: who looked lately buys more often."""

import numpy as np
import polars as pl

from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY, parse_instant
from features.project import Project

START = parse_instant("2026-01-05")

FILES = {
    "ethogram.yaml": "version: 1\nname: shop\n",
    "plan.yaml": """version: 1
events:
  viewed: {properties: {page: {type: category}}}
  bought: {properties: {revenue: {type: money}}}
""",
    "features.yaml": """version: 1
features:
  - {count: [any, viewed, bought], windows: [7d, 30d]}
  - {recency: [any, bought]}
  - {active_days: any, windows: [7d, 30d]}
""",
    "studies.yaml": """version: 1
studies:
  buys_7d:
    kind: propensity
    predicts: {did: bought, within: 7d}
    population: {did: any, within: 30d}
    cuts: {every: 7d, last: 4}
    search: {trials: 4, seed: 3}
  kinds:
    kind: clusters
    k: [2, 4]
    population: {did: any, within: 30d}
    features: [count_viewed_30d, active_days_any_30d, recency_any_s]
    business: {did: bought, value: bought.revenue, within: 7d}
""",
}


def make(folder, n_users=500, days=60, seed=1, **files):
    """A project in `folder` with its log filled."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**FILES, **{name.replace("_yaml", ".yaml"): text for name, text in files.items()}}.items():
        (folder / name).write_text(text)
    project = Project.find(folder)
    log = EventLog.of(project)
    log.append(EventBatch(events(n_users, days, seed), log.plan), name="made")
    return project


def events(n_users, days, seed):
    """Two kinds of people: some come about once a week, some nearly every day; views make purchases likelier."""
    random = np.random.default_rng(seed)
    users, names, instants = [], [], []
    for user in range(n_users):
        rate = 0.9 if user % 2 else 0.15
        for day in np.flatnonzero(random.random(days) < rate):
            views = 1 + random.poisson(3 if user % 2 else 1)
            moments = np.sort(random.integers(0, DAY, views)) + START + int(day) * DAY
            bought = random.random() < 0.02 * views
            users += [f"u{user}"] * (views + bought)
            names += ["viewed"] * views + ["bought"] * bought
            instants += [*moments.tolist(), *([int(moments[-1]) + 1] if bought else [])]
    n = len(users)
    return pl.DataFrame(
        {
            "source": ["made"] * n,
            "id": list(range(1, n + 1)),
            "event": names,
            "user_id": users,
            "ts": instants,
            "received": instants,
            "seq": list(range(n)),
            "offset": [0] * n,
        }
    )
