"""Kinds: which kinds of users are there, and what are they worth? One clustering study, up to a judged model."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import pictures, tables
from experiments.inference import Summary, Z
from experiments.result import Fitted, Searcher, columns, details
from experiments.search import VIOLATION, Direction, Found, Range, Report, Tried, spaces
from experiments.studies import OF_DENSITY, Business, ClustersSpec
from features.behaviour.feature_set import FeatureSet
from features.errors import StudyError
from features.events.log import EventLog
from features.instants import format_duration, iso
from training import clustering
from training.algorithms import ALGORITHMS, Algorithm, assigned, null_silhouettes
from training.assigner import nearest
from training.clustering import Clustering, Quality
from training.cuts import Cuts
from training.label import UNBOUNDED
from training.lineage import Lineage, first, traced
from training.model import Model
from training.steps import completed, fit_rows
from training.training_set import TrainingSet

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPE: Mapping[str, Direction] = {
    "silhouette": "maximize",
    "davies_bouldin": "minimize",
    "calinski_harabasz": "maximize",
}
LIKELIHOOD: Mapping[str, Direction] = {"silhouette": "maximize", "bic": "minimize"}
DENSITY: Mapping[str, Direction] = {"silhouette": "maximize", "davies_bouldin": "minimize", "noise": "minimize"}
OBJECTIVES: Mapping[str, Mapping[str, Direction]] = {
    **dict.fromkeys(("gaussian", "markov"), LIKELIHOOD),
    **dict.fromkeys(OF_DENSITY, DENSITY),
}
"""What a search improves; SHAPE where nothing else is said."""

SPACES: Mapping[str, Mapping[str, Range]] = {
    "gaussian": {"full": Range(0, 1, whole=True)},
    "dbscan": {"neighbours": Range(0.002, 0.02, log=True), "reach": Range(0.5, 0.98)},
    "hdbscan": {"least": Range(0.01, 0.1, log=True), "neighbours": Range(0.0005, 0.01, log=True)},
}
"""What a search may vary beside k; `search.space` gives other ends. All are free of the number of rows."""

MOST_ROWS = 20_000
"""Rows that trials are fitted on, and whatever is not k-means."""
MOST_PAIRED = 5_000
"""Rows that trials are fitted on where all pairs are compared."""
PAIRED = ("ward", *OF_DENSITY)


def clusters(
    name: str, spec: ClustersSpec, rows: TrainingSet, searcher: Searcher, *, before: Model | None = None
) -> Fitted:
    """Search under constraints, and ask whether what was found beats rows without structure.

    Args:
        name: Of the study.
        spec: What it says.
        rows: Everybody.
        searcher: Finds parameters.
        before: The model before, whose ids and names stay with its people.

    Raises:
        StudyError: too few users, no trial within the constraints, or features that the algorithm cannot take.
    """
    seed, algorithm, named = spec.search.seed, ALGORITHMS[spec.algorithm], _columns(spec, rows)
    made = tables.steps(rows, named)
    preparation, kept = fit_rows(rows.matrix, [*made, *completed(spec.steps)], names=named)
    everybody = preparation.transform(rows.matrix)
    x = everybody if kept.all() else everybody[kept]
    if len(x) < 10 * spec.k[1]:
        raise StudyError(
            f"{len(x)} users are too few for {spec.k[1]} clusters. Hint: a wider population, or a smaller k."
        )
    found = _searched(spec, algorithm, x, searcher)
    best, main = found.best.params, x if spec.algorithm == "kmeans" else _some(x, MOST_ROWS, seed)
    fitted = algorithm.fit(main, best, seed=seed, starts=10)
    head, fidelity = (fitted.assigner, 1.0) if fitted.assigner else assigned(main, fitted.labels, seed=seed)
    distances = head.distances(everybody)
    places, sure = nearest(distances), head.confidence(distances)
    seen, k = algorithm.view(main), len(head)
    quality = clustering.quality(seen, fitted, seed=seed)
    null = null_silhouettes(main, algorithm, best, seed=seed)
    stable = clustering.stability(
        main, fitted, lambda drawn, start: algorithm.fit(drawn, best, seed=start, starts=2), seed=seed
    )
    profile = clustering.profiles(algorithm.view(x), places[kept])
    line = _traced(before, rows, places, k)
    proposed = clustering.propose_names(profile, preparation.outputs)
    names = spec.names or line.names(before.names if before else (), proposed)
    shares = np.bincount(places[kept], minlength=k) / len(x)
    said = {**details(spec, rows, found), "shares": shares.tolist(), "stability": stable.tolist()}
    said |= {"next_id": line.next, "fidelity": fidelity}
    fingerprint = rows.matrix.fingerprint
    model = Model(name, "clusters", fingerprint, preparation, head, names=tuple(names), ids=line.ids, details=said)
    known = {} if rows.y is None else {"adjusted_rand": _agreement(rows.y, places)}
    sound = quality.silhouette > null.mean() + 3 * null.std() and quality.silhouette > null.max()
    nothing = f"{null.mean():.4f} (at most {null.max():.4f})" if null.max() > -1 else "it finds none"
    above = f"silhouette {quality.silhouette:.4f}, without structure {nothing}"
    per_cluster = [
        f"  id {line.ids[each]}  {shares[each]:6.1%}  found again {stable[each]:.2f}"
        f"  confidence {sure[places == each].mean():.2f}{_same(line, each)}  {names[each]}"
        for each in range(k)
    ]

    def draw(folder: Path) -> list[Path]:
        searched = pictures.searched(folder, found, OBJECTIVES.get(spec.algorithm, SHAPE))
        drawn = [*searched, pictures.sizes(folder / "sizes.png", shares.tolist())]
        if "k" in best:
            ks = range(spec.k[0], spec.k[1] + 1)
            fits = [lambda few, start, k=k: algorithm.fit(few, {**best, "k": k}, seed=start, starts=2) for k in ks]
            drawn.append(pictures.gap(folder / "gap.png", ks, *clustering.gap(main, fits, seed=seed), len(fitted)))
        if fitted.tree is not None:
            drawn.append(pictures.dendrogram(folder / "dendrogram.png", fitted.tree, len(fitted)))
        return [*drawn, pictures.heat(folder / "profiles.png", profile, names, preparation.outputs)]

    return Fitted(
        model=model,
        trees="",
        found=found,
        metrics={
            **quality.to_dict(),
            "null_silhouette": float(null.mean()),
            "least_stability": float(stable.min()),
            "fidelity": fidelity,
            "confidence": float(sure.mean()),
            **known,
        },
        verdict=f"{k} clusters: {above}" if sound else f"no clusters here: {above}",
        sound=bool(sound),
        lines=(
            *preparation.told,
            str(quality),
            *(f"adjusted Rand index with {spec.label}: {value:.4f}" for value in known.values()),
            *_placed(spec, fitted, len(x), fidelity),
            *per_cluster,
            *(f"since the model before: {each}" for each in line.changes),
            *_front(spec, found),
        ),
        draw=draw,
    )


def _columns(spec: ClustersSpec, rows: TrainingSet) -> tuple[str, ...]:
    """The study's features; of a mixture of Markov chains the moves among n kinds, row by row."""
    names = columns(spec, rows)
    if spec.algorithm != "markov":
        return names
    moves = tuple(name for name in names if name.startswith("moves_")) if spec.features == "all" else names
    n = round(len(moves) ** 0.5)
    stays = [name.removeprefix("moves_") for name in moves[:: n + 1]]
    if n < 2 or n * n != len(moves) or not all(map(_stays, stays)):
        raise StudyError(
            f"Markov chains need every kind's moves to every kind, as one `moves` declares them. Got {len(moves)} "
            "columns. Hint: `{moves: [EVENT, EVENT], windows: [30d]}` in features.yaml, and `features` in this order."
        )
    return moves


def _stays(name: str) -> bool:
    """Whether a move is from a kind to itself."""
    return any(name.startswith(f"{name[:end]}_{name[:end]}_") for end in range(1, len(name) // 2))


def _agreement(known: Array, places: Ints) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(known, places))


def _some(x: Array, most: int, seed: int) -> Array:
    return x if len(x) <= most else x[np.random.default_rng(seed).choice(len(x), most, replace=False)]


def _searched(spec: ClustersSpec, algorithm: Algorithm, x: Array, searcher: Searcher) -> Found:
    seed = spec.search.seed
    some = _some(x, MOST_PAIRED if spec.algorithm in PAIRED else MOST_ROWS, seed)
    seen = algorithm.view(some)

    def objective(params: Mapping[str, float], report: Report) -> Mapping[str, float]:
        fitted = algorithm.fit(some, params, seed=seed, starts=5)
        found = clustering.quality(seen, fitted, seed=seed, sample=clustering.QUICK_SAMPLE)
        return {**found.to_dict(), VIOLATION: _violation(spec, found)}

    space = spaces(SPACES.get(spec.algorithm, {}), spec.search.space)
    if spec.algorithm not in OF_DENSITY:
        space = {"k": Range(*spec.k, whole=True), **space}
    options: dict[str, Any] = {"direction": OBJECTIVES.get(spec.algorithm, SHAPE)}
    if all(each.whole for each in space.values()):  # few enough to try them all
        values = product(*(range(int(each.low), int(each.high) + 1) for each in space.values()))
        options["first"] = tuple(dict(zip(space, each, strict=True)) for each in values)
        options["most"] = len(options["first"])
    found = searcher(objective, space, **options)
    if found.best.figures[VIOLATION] > 0:
        best = found.best.figures
        raise StudyError(
            f"no trial gives {spec.k[0]} to {spec.k[1]} clusters of at least {spec.smallest_share:.0%} of the users "
            f"with at most {spec.most_noise:.0%} in none. The nearest: {best['k']:.0f} clusters, the smallest "
            f"{best['smallest_share']:.2%}, {best['noise']:.0%} in none. "
            "Hint: a smaller `smallest_share`, another `k`, or `preparation: [cap, log, standardise]`."
        )
    return found


def _violation(spec: ClustersSpec, found: Quality) -> float:
    """By how much the declared constraints are broken, together."""
    k = len(found.shares)
    outside = max(spec.k[0] - k, k - spec.k[1], 0)
    small = max(spec.smallest_share - min(found.shares, default=0.0), 0.0)
    return outside + small + max(found.noise - spec.most_noise, 0.0)


def _placed(spec: ClustersSpec, fitted: Clustering, n_rows: int, fidelity: float) -> Iterator[str]:
    if len(fitted.labels) < n_rows:
        yield f"{spec.algorithm} saw {len(fitted.labels):,} of the {n_rows:,} rows"
    if fitted.assigner is None:
        held = "rows that its points were not made of"
        yield f"{spec.algorithm} cannot place others: the nearest point does, and agrees on {fidelity:.1%} of {held}"


def _front(spec: ClustersSpec, found: Found) -> Iterator[str]:
    """The trials that no other beats."""
    aims = OBJECTIVES.get(spec.algorithm, SHAPE)
    yield f"not beaten in all of {', '.join(name.replace('_', '-') for name in aims)} (* was chosen):"
    for trial in sorted(found.front, key=lambda each: -each.figures[next(iter(aims))]):
        yield f"  {'*' if trial.number == found.best.number else ' '} {_told(trial, aims)}"


def _told(trial: Tried, aims: Iterable[str]) -> str:
    given = ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items() if name != "k")
    figures = ", ".join(f"{name.replace('_', '-')} {trial.figures[name]:,.4g}" for name in aims)
    return f"{trial.figures['k']:.0f} clusters{f' ({given})' if given else ''}: {figures}"


def _same(line: Lineage, place: int) -> str:
    return f"  overlap with before {line.overlap[place]:.2f}" if line.kept[place] >= 0 else ""


def _traced(before: Model | None, rows: TrainingSet, after: Ints, k: int) -> Lineage:
    """What became of the clusters of the model before, as far as it can say so of these rows."""
    if before is None or not set(before.preparation.names) <= set(rows.matrix.names):
        return first(k)
    scores = before.score_values(rows.matrix.select(before.preparation.names).values)
    unused = int(before.details.get("next_id", max(before.ids) + 1))
    return traced(scores.column().astype(np.int64), after, ids=before.ids, k=k, unused=unused)


def valued(
    fitted: Fitted, asked: Business, log: EventLog, until: int, zone: str, built: Callable[[Cuts], TrainingSet]
) -> Fitted:
    """The same with business figures of its clusters, as far as the log says so; the model does not hold them.

    Args:
        fitted: Clusters.
        asked: What counts, and for how long.
        log: The event log.
        until: The instant at which that time ends, microseconds UTC.
        zone: The project's.
        built: Gives the rows of everybody at a cut: the members are those whom the model places there as of then.
    """
    then, model = until - asked.within, fitted.model
    try:
        rows = built(Cuts((then,), (), ()))
    except StudyError as why:
        return replace(fitted, lines=(*fitted.lines, f"no business figures as of {iso(then)}: {why}"))
    places, figures = model.score(rows.matrix).column(), _after(asked, log, rows.matrix.users, until, zone)
    told = [f"in the {format_duration(asked.within)} after {iso(then)}, of who was in a cluster then:"]
    metrics: dict[str, float] = {}
    for place, (id_, name) in enumerate(zip(model.ids, model.names, strict=True)):
        found = {what: Summary.of(values[places == place]) for what, values in figures.items()}
        metrics |= {f"cluster_{id_}_{what}": each.mean for what, each in found.items() if each.n}
        told.append(f"  id {id_}  {(places == place).sum():,} users  {'  '.join(_said(found))}  {name}")
    everybody = {what: Summary.of(values) for what, values in figures.items()}
    told.append(f"  all   {len(places):,} users  {'  '.join(_said(everybody))}")
    return replace(fitted, lines=(*fitted.lines, *told), metrics={**fitted.metrics, **metrics})


def _said(found: dict[str, Summary]) -> Iterator[str]:
    for what, each in found.items():
        figure = ("{:,.2f} ± {:,.2f}" if what == "value" else "{:.1%} ± {:.1%}").format(each.mean, Z * each.error)
        yield f"{what.replace('_', ' ')} {figure if each.n else '-'}"


def _after(asked: Business, log: EventLog, users: NDArray[np.object_], until: int, zone: str) -> dict[str, Array]:
    """Per figure one number a user."""
    windows = [format_duration(asked.within)]
    what: list[dict[str, object]] = [{"count": list(dict.fromkeys(("any", asked.did))), "windows": windows}]
    what += [{"sum": asked.value, "windows": windows}] if asked.value else []
    features = FeatureSet.from_dict(
        {"version": 1, "features": what}, log.plan, log.codes, horizon=asked.within, bound=UNBOUNDED, zone=zone
    )
    found, places = np.zeros((len(users), len(features.names))), {user: row for row, user in enumerate(users.tolist())}
    for histories in log.histories_by_bucket(features.schema):
        mine = np.array([row for row, user in enumerate(histories.users) if user in places], np.int64)
        matrix = features.compute(histories.take(mine), until)
        found[[places[user] for user in matrix.users]] = matrix.values
    converted, back = found[:, features.names.index(f"count_{asked.did}_{windows[0]}")], found[:, 0]
    figures = {"converted": (converted > 0).astype(np.float64), "came_back": (back > 0).astype(np.float64)}
    return figures | ({"value": np.nan_to_num(found[:, -1])} if asked.value else {})
