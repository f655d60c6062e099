"""Result: what a study found, as plain values that print themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from experiments.pages import Table, apart
from experiments.plain import Plain, plain
from experiments.search import Found
from experiments.studies import Spec
from training.model import Model
from training.training_set import TrainingSet
from training.validation import METRICS, TITLES, Estimate, Figures

Array = NDArray[np.float64]
Searcher = Callable[..., Found]
"""`search.search` with everything but the objective, the space and the direction filled in."""

MODEL = "model"
JUDGED = "judged rows, 95 % intervals"
FOUR_FIFTHS = 0.8
"""Of the share that is chosen of another part: less is said to be unequal, as by United States guidelines on hiring."""


@dataclass(frozen=True)
class Influence:
    """What a column does to the margins.

    Attributes:
        size: Mean absolute contribution (SHAP), log-odds.
        towards: Rank correlation of its value with its contribution.
        values: Shape (n_rows,).
        parts: Shape (n_rows,), its contributions.
    """

    size: float
    towards: float
    values: NDArray[np.float32]
    parts: Array


@dataclass(frozen=True)
class Fitted:
    """A judged model.

    Attributes:
        model: The model.
        trees: XGBoost's JSON, of a propensity.
        found: What the search tried.
        metrics: Figures for the run, by name.
        figures: Of a propensity: test figures per model, ours first.
        differences: Of a propensity: ours minus each baseline's, paired.
        influence: Of a propensity: what moves its margins, the most first.
        refused: Why it must not be promoted.
        judged: Of a propensity: the rows that were judged.
        predictions: Of a propensity: per model the probabilities of these rows.
        spread: Of a propensity: per model and metric, mean and standard deviation over seeds, where there are several.
        known_later: Per column that is not known when predicting, what it would have seemed to be worth.
        verdict: One sentence.
        sound: False where the study refuses its own result.
        lines: What else a reader wants to see.
        draw: Draws the pictures into a folder.
    """

    model: Model
    trees: str
    found: Found
    metrics: Mapping[str, float]
    verdict: str
    sound: bool
    lines: tuple[str, ...]
    draw: Callable[[Path], list[Path]]
    figures: Mapping[str, Figures] = field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    influence: Mapping[str, Influence] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    judged: TrainingSet | None = None
    predictions: Mapping[str, Array] = field(default_factory=dict)
    spread: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    known_later: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def columns(spec: Spec, rows: TrainingSet) -> tuple[str, ...]:
    """The study's features."""
    return rows.matrix.names if spec.features == "all" else tuple(spec.features)


def details(spec: Spec, rows: TrainingSet, found: Found) -> dict[str, Any]:
    """What a reader of a model wants to know."""
    return {
        "spec": spec.model_dump(mode="json", exclude_none=True),
        "training_set": dict(rows.provenance),
        "params": dict(found.best.params),
        "trials": len(found.trials),
    }


@dataclass(frozen=True)
class Slice(Plain):
    """Figures of a part of the test rows.

    Attributes:
        name: Which part.
        n_rows: Its rows.
        happened: Share whose outcome happened.
        predicted: Mean probability.
        roc_auc: With its 95 per cent interval over users.
        chosen: Share whose probability is at or above the threshold.
        caught: The same of those whose outcome happened.
        wrongly: The same of the others.
        sensitive: Whether a declared sensitive attribute makes it a part.
    """

    name: str
    n_rows: int
    happened: float
    predicted: float
    roc_auc: Estimate
    chosen: float
    caught: float
    wrongly: float
    sensitive: bool


def unequal(found: Sequence[Slice]) -> Iterator[str]:
    """The sensitive parts that are chosen far less often than another of the same attribute."""
    special = [each for each in found if each.sensitive]
    for each in special:
        same = [one for one in special if one.name.partition(" = ")[0] == each.name.partition(" = ")[0]]
        most = max(same, key=lambda one: one.chosen)
        if each.chosen < FOUR_FIFTHS * most.chosen:
            yield f"{each.name} is chosen less often: {each.chosen:.1%}, and {most.chosen:.1%} of {most.name}."


@dataclass(frozen=True)
class StudyResult(Plain):
    """What a study found.

    Attributes:
        study: Its name.
        kind: `propensity`, `table` or `clusters`.
        verdict: One sentence against the baselines, or against rows without structure.
        refused: Why it must not be promoted.
        lines: What else there is to say, a cluster a line among it.
        metrics: Every figure that the run records.
        figures: Where something is predicted: per model and metric, value and 95 per cent interval over users.
        differences: Likewise: ours minus each baseline's, from the same resamples.
        spread: Per model and metric, mean and standard deviation over the seeds, of a table judged in folds.
        known_later: Per column that is not known when predicting, what it would have seemed to be worth.
        slices: Figures of parts of the judged rows.
        training_set: Where the rows come from.
        params: The best trial's.
        trials: How many there were.
        pruned: How many of them were ended early.
        resumed: How many of them an earlier, killed process had finished.
        seconds: How long it took.
        text: What it prints.
        run_id: MLflow's; empty where nothing is recorded.
        version: Of the registered model; None where the study refuses its own result, or nothing is recorded.
        folder: The model's plain files; None likewise.
        digest: The model's.
        card: The model card, a page; None where nothing is recorded.
        pictures: PNG files.
    """

    study: str
    kind: str
    verdict: str
    refused: tuple[str, ...]
    lines: tuple[str, ...]
    metrics: Mapping[str, float]
    figures: Mapping[str, Mapping[str, Any]]
    differences: Mapping[str, Mapping[str, Any]]
    spread: Mapping[str, Mapping[str, Mapping[str, float]]]
    known_later: Mapping[str, Mapping[str, float]]
    slices: Sequence[Mapping[str, object]]
    training_set: Mapping[str, object]
    params: Mapping[str, float]
    trials: int
    pruned: int
    resumed: int
    seconds: float
    text: str
    run_id: str = ""
    version: int | None = None
    folder: Path | None = None
    digest: str = ""
    card: Path | None = None
    pictures: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        rows: TrainingSet,
        fitted: Fitted,
        slices: Sequence[Slice],
        seconds: float,
        kept: str = "nothing is recorded",
        **places: Any,  # noqa: ANN401 - fields above
    ) -> Self:
        """The result of a fit.

        Args:
            name: The study's.
            rows: What it was asked of.
            fitted: What came of it.
            slices: Of its judged rows.
            seconds: How long it took.
            kept: Where it is kept, in words.
            places: Where it is kept: `run_id`, `version`, `folder`, `digest`, `card`, `pictures`.
        """
        found, spread = fitted.found, fitted.spread
        return cls(
            study=name,
            kind=str(fitted.model.details["spec"]["kind"]),
            verdict=fitted.verdict,
            refused=fitted.refused,
            lines=fitted.lines,
            metrics=dict(fitted.metrics),
            figures=plain(fitted.figures),
            differences=plain(fitted.differences),
            spread={
                model: {metric: {"mean": mean, "sd": sd} for metric, (mean, sd) in each.items()}
                for model, each in spread.items()
            },
            known_later=fitted.known_later,
            slices=plain(slices),
            training_set=dict(rows.provenance),
            params=dict(found.best.params),
            trials=len(found.trials),
            pruned=found.n_pruned,
            resumed=found.resumed,
            seconds=seconds,
            text="\n".join([*_lines(name, rows, fitted), *unequal(slices), kept, f"{seconds:.1f} s"]),
            **places,
        )

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value for name, value in super().to_dict().items() if name != "text"}


def _lines(name: str, rows: TrainingSet, fitted: Fitted) -> list[str]:
    found = fitted.found
    lines = [f"study {name}: {fitted.verdict}", "", str(rows), ""]
    if fitted.figures:
        lines += [table(JUDGED, fitted.figures).text(), *against(fitted)]
    if fitted.spread:
        cells = {
            model: {m: f"{mean:.4f} +- {sd:.4f}" for m, (mean, sd) in by.items()} for model, by in fitted.spread.items()
        }
        lines += ["", table("means of the parts, sd over seeds", cells).text(), ""]
    for column, worth in fitted.known_later.items():
        lines.append(
            f"leak: {column} is not known when predicting and is left out; with it ROC-AUC would be "
            f"{worth['roc_auc_with']:.4f} instead of {worth['roc_auc_without']:.4f}"
        )
    lines += [*fitted.lines, *(f"not to be promoted: {each}" for each in fitted.refused)]
    params = ", ".join(f"{param} {value:.4g}" for param, value in found.best.params.items())
    earlier = f", {found.resumed} from an earlier process" if found.resumed else ""
    return [*lines, f"search: {len(found.trials)} trials, {found.n_pruned} pruned{earlier}; best: {params}"]


def against(fitted: Fitted) -> list[str]:
    """Our model beside each other one, a sentence each."""
    said = []
    for other, gaps in fitted.differences.items():
        gap = gaps["roc_auc"]
        verdict = "better than" if gap.low > 0 else "worse than" if gap.high < 0 else "not told apart from"
        said.append(f"{MODEL}: {verdict} {other}, ROC-AUC {apart(gap)}")
    return said


def table(head: str, cells: Mapping[str, Any]) -> Table:
    """A line a metric, a column a model."""
    rows = [[TITLES[m], *(str(each[m]) for each in cells.values())] for m in METRICS]
    return Table([head, *cells], rows, texts=1 + len(cells))
