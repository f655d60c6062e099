"""Result: what a study found, as plain values that print themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from experiments.fitting import MODEL, Fitted
from experiments.slices import Slice, unequal
from training.training_set import TrainingSet
from training.validation import METRICS, TITLES


@dataclass(frozen=True)
class StudyResult:
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
            figures={model: each.to_dict() for model, each in fitted.figures.items()},
            differences={
                model: {metric: gap.to_dict() for metric, gap in each.items()}
                for model, each in fitted.differences.items()
            },
            spread={
                model: {metric: {"mean": mean, "sd": sd} for metric, (mean, sd) in each.items()}
                for model, each in spread.items()
            },
            known_later=fitted.known_later,
            slices=[each.to_dict() for each in slices],
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

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        values = {name: value for name, value in vars(self).items() if name != "text"}
        folder, page = (str(path) if path else None for path in (self.folder, self.card))
        return {**values, "folder": folder, "card": page, "pictures": [str(path) for path in self.pictures]}


def _lines(name: str, rows: TrainingSet, fitted: Fitted) -> list[str]:
    found = fitted.found
    lines = [f"study {name}: {fitted.verdict}", "", str(rows), ""]
    if fitted.figures:
        each = {model: {m: str(figures[m]) for m in METRICS} for model, figures in fitted.figures.items()}
        lines += [*_table("judged rows, 95 % intervals", each), *against(fitted)]
    if fitted.spread:
        cells = {
            model: {m: f"{mean:.4f} +- {sd:.4f}" for m, (mean, sd) in by.items()} for model, by in fitted.spread.items()
        }
        lines += ["", *_table("means of the parts, sd over seeds", cells), ""]
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
        said.append(f"{MODEL}: {verdict} {other}, ROC-AUC {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
    return said


def _table(head: str, cells: Mapping[str, Mapping[str, str]]) -> list[str]:
    rows = [[head, *cells], *([TITLES[m], *(each[m] for each in cells.values())] for m in METRICS)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
