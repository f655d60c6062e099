"""Propensities: rows in parts become a judged model that predicts, wherever rows, parts and label come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from experiments import pages, pictures, tables
from experiments.result import MODEL, Fitted, Influence, Searcher, columns, details
from experiments.search import Found, Range, Report, Tried, spaces
from experiments.studies import PropensitySpec, TableSpec
from features.errors import StudyError, nearest
from features.people import hash_text
from training.baselines import baselines
from training.boosting import FINALISTS, Boosting, Grown
from training.contributions import contributions, paths_of_all
from training.model import Model
from training.parts import TEST
from training.propensity import area, calibrate, leaks, threshold
from training.selection import steady
from training.steps import fit_rows
from training.training_set import TrainingSet
from training.trees import Forest
from training.validation import METRICS, Confusion, Estimate, Figures, judge

Array = NDArray[np.float64]
Spec = PropensitySpec | TableSpec
Means = Mapping[str, Mapping[str, float]]

SPACE: Mapping[str, Range] = {
    "max_depth": Range(2, 6, whole=True),
    "learning_rate": Range(0.05, 0.15, log=True),
    "min_child_weight": Range(1, 100, log=True),
    "subsample": Range(0.6, 1.0),
    "colsample_bytree": Range(0.3, 1.0),
    "reg_lambda": Range(0.1, 30, log=True),
}
"""What a search may vary; `search.space` in studies.yaml gives other ends.

The best of many trials that learn faster is the luckiest on the rows that choose.
"""
DEFAULT = {"max_depth": 4, "learning_rate": 0.05, "min_child_weight": 1, "subsample": 1.0}
DEFAULT |= {"colsample_bytree": 1.0, "reg_lambda": 1.0}
"""Tried first."""

EXPLAINED = 2_000
"""Judged rows whose margins are taken apart."""
COPIED = 0.2
"""Share of a table's positive rows with an exact copy from which on the file looks oversampled."""
LASTS = 0.05
"""ROC-AUC by which rows of another time may be ranked worse than other users' of the same time."""


@dataclass(frozen=True)
class Trial:
    """What a search asks of a set of parameters; it may be handed to another process."""

    boosting: Boosting
    seed: int

    def __call__(self, params: Mapping[str, float], report: Report) -> Mapping[str, float]:
        """The validation log-loss, and how many rounds it took."""
        grown = self.boosting.grow(params, seed=self.seed, on_round=report)
        return {"value": grown.log_loss, "rounds": grown.rounds}


@dataclass(frozen=True)
class Learned:
    """What was learned from the rows that are not judged.

    Attributes:
        model: Trees from all of them, calibration and threshold from those that choose.
        grown: The model's trees.
        boosting: The rows, prepared.
        found: What the search tried.
        finalists: The trials whose mean the model is.
        log_loss: Of the rows that choose, before calibration.
    """

    model: Model
    grown: Grown
    boosting: Boosting
    found: Found
    finalists: Sequence[Tried]
    log_loss: float

    def again(self, seed: int, among: NDArray[np.bool_] | None = None) -> Forest:
        """The trees of the same parameters from all rows, or some of them."""
        return _again(self.boosting, self.finalists, seed, among).forest


@dataclass(frozen=True)
class Judged:
    """The rows that were judged, each once.

    Attributes:
        rows: Them.
        predictions: Per model, ours first, the probabilities of these rows.
        means: Per model and metric the mean over the parts.
        learned: What was learned for each part.
    """

    rows: TrainingSet
    predictions: Mapping[str, Array]
    means: Means
    learned: Sequence[Learned]


@dataclass(frozen=True)
class Asked:
    """A study under way.

    Attributes:
        name: Its name.
        spec: What it says.
        searcher: Finds parameters.
        searches: Numbers them.
    """

    name: str
    spec: Spec
    searcher: Searcher
    searches: "count[int]" = field(default_factory=count)

    def learned(self, rows: TrainingSet, names: tuple[str, ...]) -> Learned:
        """Everything that is learned, from the rows that train and the rows that choose.

        Parameters, rounds, calibration and threshold come from trees of the training rows, told by the rows that
        choose; then trees are grown from both. Both are the mean of the best trials.
        """
        spec, part, (train, validation, _) = self.spec, next(self.searches), rows.split_by_time()
        seed, told = spec.search.seed + part, [*tables.steps(rows, names), *spec.preparation]
        if spec.select is not None:
            names = steady(train, names, halves=spec.select.halves, share=spec.select.share, seed=seed)
            told = [*tables.steps(rows, names), *spec.preparation]
        preparation, kept = fit_rows(train.matrix, told, names=names)
        monotone = {each: 1 if way == "rises" else -1 for each, way in spec.monotone.items()}
        boosting = Boosting(train.take(kept), validation, preparation, balanced=spec.balanced, monotone=monotone)
        space = spaces(SPACE, spec.search.space)
        first = ({key: min(max(value, space[key].low), space[key].high) for key, value in DEFAULT.items()},)
        found = self.searcher(Trial(boosting, seed), space, direction="minimize", first=first, part=part)
        finalists = sorted((each for each in found.trials if each.state == "complete"), key=_log_loss)[:FINALISTS]
        chosen = boosting.mean([boosting.grow(each.params, seed=seed) for each in finalists], judged=True)
        margins, y = chosen.forest.margins(boosting.x[1]), boosting.y[1]
        calibration, limit = calibrate(spec.calibration, margins, y), 0.5
        if not rows.classes:
            cost = None if spec.threshold == "f1" else spec.threshold
            limit = threshold(y, calibration.probability(margins), cost)
        grown = _again(boosting, finalists, seed)
        kind, said = "classes" if rows.classes else "propensity", details(spec, rows, found)
        head, names = (rows.matrix.fingerprint, preparation, grown.forest, calibration, limit), rows.classes
        model = Model(self.name, kind, *head, costs=_costs(spec, rows), names=names, details=said)
        return Learned(model, grown, boosting, found, finalists, chosen.log_loss)

    def judged(self, parts: Sequence[TrainingSet], names: tuple[str, ...], *, beside: bool = True) -> Judged:
        """What is learned from each part's rows tells its judged rows, and so do the baselines `beside` it."""
        learned, told, means = [], list[dict[str, Array]](), list[Means]()
        for rows in parts:
            mine = self.learned(rows, names)
            test, known, taken = rows.split_by_time()[2], rows.take(rows.parts != TEST), mine.model.preparation.names
            seed, made = self.spec.search.seed, tables.steps(rows, taken)
            cheap = baselines(known, test, taken, steps=made, seed=seed) if beside else {}
            if len(parts) > 1:
                cheap = {each.partition(":")[0]: p for each, p in cheap.items()}
            told.append({MODEL: mine.model.probabilities(test.matrix), **cheap})
            found = judge(np.asarray(test.y), told[-1], test.matrix.users, replicates=50)
            means.append({each: {m: figures[m].value for m in METRICS} for each, figures in found.items()})
            learned.append(mine)
        places = np.concatenate([np.flatnonzero(rows.parts == TEST) for rows in parts])
        joined = {each: np.concatenate([one[each] for one in told]) for each in told[0]}
        return Judged(parts[0].take(places), joined, _mean(means), learned)

    def parts(self, rows: TrainingSet, seed: int) -> list[TrainingSet]:
        """The rows, as often as rows are judged, with what learns, chooses and is judged."""
        return list(tables.parted(rows, self.spec.split, seed=seed)) if isinstance(self.spec, TableSpec) else [rows]

    def worth(self, rows: TrainingSet, names: tuple[str, ...], without: float) -> dict[str, dict[str, float]]:
        """What each column that is known too late would have seemed to be worth."""
        found = {}
        for late in self.spec.known_later:
            told = self.judged(self.parts(rows, self.spec.search.seed), (*names, late), beside=False).means[MODEL]
            found[late] = {"roc_auc_with": told["roc_auc"], "roc_auc_without": without}
        return found


def propensity(name: str, spec: Spec, rows: TrainingSet, searcher: Searcher) -> Fitted:
    """Search, grow, calibrate, choose a threshold, and judge on rows apart, beside models that cost little.

    Where every row is judged once, in folds, everything is learned anew for every fold, and the model that is kept
    from all rows.

    Raises:
        StudyError: a part holds one class only, a column knows the answer, or the rows are copies of each other.
    """
    names, seed, asked = _names(spec, rows), spec.search.seed, Asked(name, spec, searcher)
    _refuse_leaks(spec, rows, names)
    kept = None
    if isinstance(spec, TableSpec) and spec.split.by == "folds":
        kept = asked.learned(tables.whole(rows, spec.split, seed=seed), names)
    every = [asked.judged(asked.parts(rows, seed + number), names) for number in range(spec.seeds)]
    first = every[0]
    learned = kept or first.learned[0]
    y, predictions, users = np.asarray(first.rows.y), first.predictions, first.rows.matrix.users
    figures = judge(y, predictions, users, seed=seed)
    differences = {other: figures[MODEL].minus(each) for other, each in figures.items() if other != MODEL}
    x = learned.model.preparation.transform(first.rows.matrix).astype(np.float32)
    influence = _influence(learned.grown.forest, x, learned.model.preparation.outputs, seed=seed)
    chance, passing = ({}, []) if kept else _elsewhere(learned, y, x, figures[MODEL], seed)
    return Fitted(
        model=learned.model,
        trees=learned.grown.text,
        found=learned.found,
        metrics={"validation_log_loss": learned.log_loss, "trees": learned.grown.rounds, **chance, **_flat(figures)},
        verdict=_beats(differences),
        sound=True,
        lines=(*learned.model.preparation.told, *_told(learned, y, predictions[MODEL], chance)),
        draw=lambda folder: pictures.propensity(folder, y, predictions, learned.grown.gain, influence),
        figures=figures,
        differences=differences,
        influence=influence,
        refused=(*spec.gates.failed(figures[MODEL], differences), *passing),
        judged=first.rows,
        predictions=predictions,
        spread=_spread([each.means for each in every]) if spec.seeds > 1 or kept else {},
        known_later=asked.worth(rows, names, first.means[MODEL]["roc_auc"]),
    )


def _mean(parts: Sequence[Means]) -> dict[str, dict[str, float]]:
    return {
        name: {metric: float(np.mean([part[name][metric] for part in parts])) for metric in METRICS}
        for name in parts[0]
    }


def _spread(seeds: Sequence[Means]) -> dict[str, dict[str, tuple[float, float]]]:
    """Per model and metric, mean and standard deviation over the seeds."""
    means = _mean(seeds)
    return {
        name: {
            m: (mean, float(np.std([each[name][m] for each in seeds], ddof=len(seeds) > 1))) for m, mean in by.items()
        }
        for name, by in means.items()
    }


def _log_loss(trial: Tried) -> float:
    return trial.figures["value"]


def _again(boosting: Boosting, finalists: Sequence[Tried], seed: int, among: NDArray[np.bool_] | None = None) -> Grown:
    """The mean of the finalists, from the rows that train and those that choose."""
    tried = [(each.params, int(each.figures["rounds"])) for each in finalists]
    return boosting.again(tried, seed=seed, among=among)


def _costs(spec: Spec, rows: TrainingSet) -> tuple[tuple[float, ...], ...]:
    """What taking a row of one class (row) for another (column) costs: 1 where nothing is said."""
    if spec.costs and not rows.classes:
        raise StudyError(
            "`costs` are of a question that asks which of several; this one asks yes or no. "
            "Hint: `threshold: {false_positive: 1, false_negative: 5}`."
        )
    for name in (*spec.costs, *(other for each in spec.costs.values() for other in each)):
        if name not in rows.classes:
            raise StudyError(f"costs: there is no class {name!r}. {nearest(name, rows.classes)}")
    known = rows.classes if spec.costs else ()
    return tuple(tuple(0.0 if a == b else spec.costs.get(a, {}).get(b, 1.0) for b in known) for a in known)


def _names(spec: Spec, rows: TrainingSet) -> tuple[str, ...]:
    """The columns that are learned from."""
    for name in (*spec.known_later, *spec.sensitive, *spec.trusted):
        if name not in rows.matrix.names:
            raise StudyError(f"there is no column {name!r}. {nearest(name, rows.matrix.names)}")
    return tuple(name for name in columns(spec, rows) if name not in {*spec.known_later, *spec.sensitive})


def _refuse_leaks(spec: Spec, rows: TrainingSet, names: tuple[str, ...]) -> None:
    """A StudyError where a column, or a copy of a row, knows the answer."""
    table = isinstance(spec, TableSpec)
    if isinstance(spec, TableSpec) and not (spec.copies_allowed or rows.classes):
        positive, others = tables.copies(rows)
        if positive > COPIED and positive > 2 * others:
            raise StudyError(
                f"{positive:.0%} of the positive rows are exact copies of another one, {others:.0%} of the others: the "
                "file seems to have been oversampled before the split, and copies of a judged row are learned from. "
                "Hint: give the file as it was, nothing need be resampled; if the copies are real, --copies-allowed."
            )
    learnable = rows if table else rows.split_by_time()[0]
    found = leaks(learnable, tuple(name for name in names if name not in spec.trusted))
    if found:
        name, best = max(found.items(), key=lambda item: item[1])
        way = f"`known_later: [{name}]` leaves it out and weighs it; if it is right, `trusted: [{name}]`"
        way = f"--known-later {name} leaves it out and weighs it; if it is right, --trusted {name}" if table else way
        what = "column" if table else "feature"
        raise StudyError(
            f"the {what} {name!r} alone has a ROC-AUC of {best:.3f}: it seems to know the answer. Hint: {way}."
        )


def _elsewhere(
    learned: Learned, y: Array, x: NDArray[np.float32], figures: Figures, seed: int
) -> tuple[dict[str, float], list[str]]:
    """(ROC-AUC of trees with two other seeds, why not to promote), judged as ours were.

    The second grows without a quarter of the users: where these, of the same time, are ranked far better than the rows
    of the test, what was learned does not last.
    """
    boosting = learned.boosting
    apart = np.array([hash_text("same time" + user) % 4 == 0 for user in boosting.users])
    both = [learned.again(seed + 1), learned.again(seed + 2, ~apart)]
    areas = [_area(y, forest.margins(x)) for forest in both]
    chance = {"seeds_least_roc_auc": min(areas), "seeds_largest_roc_auc": max(areas)}
    known, held = np.concatenate(boosting.y)[apart], np.concatenate(boosting.x)[apart]
    same = _area(known, both[1].margins(held)) if len(np.unique(known)) > 1 else 0.0
    if same - LASTS <= figures["roc_auc"].high:
        return chance, []
    now = f"{figures['roc_auc']} for the rows that were judged"
    return chance, [f"it does not last: ROC-AUC {same:.4f} for other users of the same time, {now}"]


def _area(y: Array, margins: NDArray[np.float32]) -> float:
    """ROC-AUC, of several classes the mean over them."""
    if margins.ndim == 1:
        return area(y, margins.astype(np.float64))
    places = np.unique(y).astype(np.int64)
    return float(np.mean([area((y == k).astype(np.float64), margins[:, k].astype(np.float64)) for k in places]))


def _influence(forest: Forest, x: NDArray[np.float32], names: tuple[str, ...], *, seed: int) -> dict[str, Influence]:
    """What moves the margins of these rows, the most first; of at most EXPLAINED of them.

    Of several classes, each column is shown by what it does to the class that it moves most.
    """
    from scipy.stats import rankdata

    some = x[np.sort(np.random.default_rng(seed).permutation(len(x))[:EXPLAINED])]
    each = [contributions(forest.only(k), paths, some)[:, :-1] for k, paths in enumerate(paths_of_all(forest))]
    sizes = np.stack([np.abs(parts).mean(axis=0) for parts in each])
    found = {}
    for place in np.argsort(-sizes.max(axis=0), kind="stable"):
        parts, size = each[int(sizes[:, place].argmax())], float(sizes[:, place].max())
        there = ~np.isnan(some[:, place])
        ranks = [rankdata(values[there]) for values in (some[:, place], parts[:, place])]
        flat = not there.any() or min(values.std() for values in ranks) == 0
        towards = 0.0 if flat else float(np.asarray(np.corrcoef(ranks))[0, 1])
        if size > 0:
            found[names[place]] = Influence(size, towards, some[:, place], parts[:, place])
    return found


def _told(learned: Learned, y: Array, p: Array, chance: Mapping[str, float]) -> list[str]:
    if p.ndim == 1:
        lines = [str(Confusion.at(learned.model.threshold, y, p))]
    else:
        likely, told = p.argmax(axis=1), learned.model.told(p)
        lines = [f"{(likely == y).mean():.1%} of the rows are in their most probable class"]
        if learned.model.costs:
            mine, rows = np.array(learned.model.costs)[y.astype(np.int64)], np.arange(len(y))
            ours, others = mine[rows, told].mean(), mine[rows, likely].mean()
            lines.append(f"told by cost, a row costs {ours:.4g}; by the most probable class {others:.4g}")
        for place, name in enumerate(learned.model.names):
            counts = np.bincount(told[y == place], minlength=p.shape[1])
            shown = ", ".join(f"{n:,} {each}" for each, n in zip(learned.model.names, counts, strict=True))
            lines.append(f"  {name}: taken for {shown}")
    if chance:
        least, largest = chance.values()
        lines.append(f"trees of two other seeds: ROC-AUC {least:.4f} to {largest:.4f}")
    return [*lines, "asks most about: " + ", ".join(list(learned.grown.gain)[:5])]


def _beats(differences: Mapping[str, Mapping[str, Estimate]]) -> str:
    lost = {name: each["roc_auc"] for name, each in differences.items() if each["roc_auc"].low <= 0}
    if not lost:
        best = min(differences.items(), key=lambda item: item[1]["roc_auc"].value)
        return f"beats every baseline; the best of them, {best[0]}, by {best[1]['roc_auc']} ROC-AUC"
    name, gap = min(lost.items(), key=lambda item: item[1].value)
    return f"does not beat the baseline {name}: {pages.apart(gap)} ROC-AUC"


def _flat(figures: Mapping[str, Figures]) -> dict[str, float]:
    flat = {"test_rows": figures[MODEL].n_rows, "test_base_rate": figures[MODEL].base_rate}
    for name, each in figures.items():
        short = "test" if name == MODEL else name.split(":")[0].split(" ")[0]
        for metric in METRICS:
            flat[f"{short}_{metric}"] = each[metric].value
    for metric in METRICS:
        estimate = figures[MODEL][metric]
        flat |= {f"test_{metric}_low": estimate.low, f"test_{metric}_high": estimate.high}
    return flat
