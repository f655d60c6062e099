"""Card: what somebody wants to know of a model before trusting it, as a page and as Markdown, in every run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import pages
from experiments.pages import Table
from experiments.result import JUDGED, MODEL, Fitted, Slice, table, unequal
from training.training_set import LEFT_OUT, TrainingSet
from training.validation import METRICS

HTML, MARKDOWN = "card.html", "card.md"
APART = 0.1
"""ROC-AUC by which a slice may rank worse than all rows before the card says so."""


@dataclass(frozen=True)
class Part:
    """A part of the card."""

    title: str
    lines: Sequence[str] = ()
    table: Table | None = None


def write(
    folder: Path, name: str, rows: TrainingSet, fitted: Fitted, slices: Sequence[Slice], pictures: Sequence[Path]
) -> tuple[Path, Path]:
    """The card beside the pictures.

    Args:
        folder: Where the pictures are.
        name: Of the study.
        rows: What it was trained and judged on.
        fitted: The judged model.
        slices: Figures of parts of the test rows.
        pictures: PNG files.

    Returns:
        The page and the Markdown document.
    """
    parts = list(_parts(rows, fitted, slices))
    said = rows.provenance
    who = f"rows of {said['file']}" if "file" in said else f"who {said['population']}"
    subtitle = f"{fitted.model.kind}: {said['label'] or 'groups of users'}, of {who}"
    sections = [
        pages.section(each.title, pages.listing(each.lines), each.table.html() if each.table else "") for each in parts
    ]
    drawn = pages.section("Pictures", *map(pages.inline, pictures))
    head = pages.verdict(fitted.verdict, ())
    page = pages.write(folder / HTML, pages.page(f"Model card: {name}", subtitle, head, *sections, drawn))
    blocks = [f"# Model card: {name}", subtitle, f"**{fitted.verdict}**"]
    for each in parts:
        blocks += [f"## {each.title}"]
        blocks += ["\n".join(f"- {line}" for line in each.lines)] if each.lines else []
        blocks += [each.table.markdown()] if each.table else []
    blocks += ["## Pictures", *(f"![{path.stem}]({path.name})" for path in pictures)]
    return page, pages.write(folder / MARKDOWN, "\n\n".join(blocks) + "\n")


def _parts(rows: TrainingSet, fitted: Fitted, slices: Sequence[Slice]) -> Iterator[Part]:
    yield Part("Data", str(rows).splitlines(), None)
    if fitted.figures:
        told = [*fitted.lines, *(f"Not to be promoted: {each}" for each in fitted.refused)]
        yield Part("How good it is", told, table(JUDGED, fitted.figures))
        gaps = {name: {m: pages.apart(gap[m]) for m in METRICS} for name, gap in fitted.differences.items()}
        yield Part("Ours minus the baselines", (), table("95 % intervals", gaps))
    else:
        plain = [[name.replace("_", " "), f"{value:.4g}"] for name, value in fitted.metrics.items()]
        yield Part("How good it is", fitted.lines, Table(["figure", "value"], plain))
    if slices:
        cells = [[s.name, f"{s.n_rows:,}", f"{s.happened:.3f}", f"{s.predicted:.3f}", str(s.roc_auc)] for s in slices]
        yield Part(
            "For whom", (), Table(["part of the judged rows", "rows", "happened", "predicted", "ROC-AUC"], cells)
        )
    special = [each for each in slices if each.sensitive]
    if special:
        equal = [[s.name, f"{s.chosen:.3f}", f"{s.caught:.3f}", f"{s.wrongly:.3f}"] for s in special]
        header = ["sensitive attribute", "chosen", "of those who did", "of those who did not"]
        yield Part("Whether people are treated alike", list(unequal(slices)), Table(header, equal))
    if fitted.influence:
        top = [[name, f"{each.size:.4f}", f"{each.towards:+.2f}"] for name, each in list(fitted.influence.items())[:20]]
        header = ["feature", "mean size of SHAP, log-odds", "rank correlation with it"]
        yield Part("What moves a probability", (), Table(header, top))
    yield Part("How it was found", list(_search(fitted)), None)
    yield Part("What it does not tell", list(_limits(rows.provenance, fitted, slices)), None)


def _search(fitted: Fitted) -> Iterator[str]:
    found = fitted.found
    yield f"{len(found.trials)} trials, {found.n_pruned} ended early; the best is number {found.best.number + 1}"
    yield ", ".join(f"{name} {value:.4g}" for name, value in found.best.params.items())
    model = fitted.model
    names, columns = model.preparation.names, model.preparation.outputs
    yield f"{len(names)} features ({model.features}), {len(columns)} columns"


def _limits(said: Mapping[str, object], fitted: Fitted, slices: Sequence[Slice]) -> Iterator[str]:
    left_out = said.get("left_out")
    if "known" in said:
        yield f"Known are {said['known']}."
        yield f"{said['n_users_without_consent']:,} persons gave no consent to model training, and are in none of it."
    if isinstance(left_out, Mapping) and any(left_out.values()):
        yield "Left out: " + ", ".join(f"{left_out[name]:,} {words}" for name, words in LEFT_OUT.items()) + "."
    if not fitted.figures:
        yield "Silhouettes compare clusterings of the same columns; other features give other kinds of users."
        return
    yield (
        "It was judged on one stretch of time. The intervals say how the same time would look with other users; "
        "another time may differ by more."
    )
    yield "It says who is likely, not what changes that: whether acting on it helps is for an A/B test to say."
    area = fitted.figures[MODEL]["roc_auc"].value
    for each in slices:
        if each.roc_auc.high < area and each.roc_auc.value < area - APART:
            yield f"It ranks {each.name} worse: ROC-AUC {each.roc_auc}."
        gap, noise = each.predicted - each.happened, np.sqrt(each.happened * (1 - each.happened) / each.n_rows)
        if abs(gap) > max(4 * noise, 0.02):
            yield f"For {each.name} it says {each.predicted:.1%} on average where {each.happened:.1%} happened."
