"""Album: an exploration as one self-contained page, its pictures beside it, and a document for programs."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments import pages, portraits, scenes
from experiments.pages import Table
from experiments.portraits import Album
from experiments.proposals import ratio, text
from experiments.signals import PERCENTILES, Signal

if TYPE_CHECKING:
    from experiments.exploration import Exploration

MOST_ROWS = 40
PICTURES: tuple[tuple[str, str, Callable[[Album, "Exploration"], str]], ...] = (
    (
        "What single features say",
        "A cut is chosen on one half of the users, judged on the other.",
        portraits.association,
    ),
    ("Thresholds", "Natural breaks are on the cleaned scale.", portraits.thresholds),
    (
        "Before and after cleaning",
        "Blue is before; orange after impute, cap, log: missing values filled, ends cut off, logarithms taken.",
        portraits.distributions,
    ),
    ("Correlations", "Spearman's, like beside like.", portraits.correlations),
    ("Active or dormant", "Who has not come back counts as long as they were watched.", scenes.returns),
    ("Funnel", "Each step at its first chance behind the one before.", scenes.funnel),
    ("What follows what", "Per cent of each row, within a session.", scenes.transitions),
    ("Sequences", "In a row within a session, in the 30 days before; held up by Holm's correction.", scenes.trails),
    ("When", "By the hour and weekday where the person was.", scenes.hours),
    ("Where on the page", "Darker where more.", scenes.places),
    ("Retention", "Per cent who did anything; only whole periods count.", scenes.retention),
)
"""Title, what to know, and who draws it, in the order of the page."""


def write(made: "Exploration", reports: Path) -> "Exploration":
    """Write page, pictures and document into a folder of their own; the exploration with their places."""
    name = made.question.study or made.question.outcome or "log"
    folder = reports / f"explore-{re.sub('[^a-z0-9]+', '-', name.lower())}"
    album = Album(folder)
    parts = list(_parts(made, album))
    files = {"page": folder / "explore.html", "document": folder / "explore.json"}
    made = replace(made, files={**files, **{file.stem: file for file in album.files}})
    pages.write(files["page"], pages.page(f"What there is to see in {made.project}", made.title, *parts))
    pages.write(files["document"], json.dumps(made.to_dict(), indent=1) + "\n")
    return made


def _parts(made: "Exploration", album: Album) -> Iterator[str]:
    yield pages.verdict(headline(made), [made.sampling, *made.notes])
    for file, document in text(made.proposals).items():
        yield pages.section(f"Proposed for {file}", pages.code(document))
    for title, why, draw in PICTURES:
        if picture := draw(album, made):
            yield pages.section(title, pages.note(why), picture)
    if made.signals:
        rest = pages.note(f"{len(made.signals) - MOST_ROWS} more in explore.json") if made.signals[MOST_ROWS:] else ""
        said = pages.folded("What single features say", _said(made).html())
        yield pages.section(
            "All features", said, pages.folded("Means, percentiles, breaks", _numbers(made).html()), rest
        )


def headline(made: "Exploration") -> str:
    """What a reader takes home, in one sentence."""
    if made.y is None:
        return f"{len(made.signals)} features, no outcome"
    best = next((each for each in made.telling if each.lift is not None and each.bits > 0), None)
    if best is None or best.lift is None:
        return "no single feature says anything of the outcome"
    return f"{best.feature} {best.told} says most: {ratio(best.lift.value)} the outcome of all others"


def _said(made: "Exploration") -> Table:
    rank = "ROC-AUC" if made.binary else "Spearman"
    header = ("feature", "bits", rank, "cut", "users", "outcome inside", "against others", "95 % interval")
    rows = [_row(each, binary=made.binary) for each in made.signals[:MOST_ROWS] if each.bits > 0]
    return Table(header, rows)


def _row(each: Signal, *, binary: bool) -> list[str]:
    lift = [ratio(each.lift.value), f"{ratio(each.lift.low)} - {ratio(each.lift.high)}"] if each.lift else ["-", "-"]
    cut = [each.told, f"{each.share:.0%}"] if each.split else ["-", "-"]
    inside = "-" if np.isnan(each.inside) else f"{each.inside:.1%}" if binary else f"{each.inside:,.4g}"
    return [each.feature, f"{each.bits:.4f}", f"{each.rank:.3f}", *cut, inside, *lift]


def _numbers(made: "Exploration") -> Table:
    header = ("feature", "missing", "zero", "mean", "sd", *(f"p{each}" for each in PERCENTILES), "natural breaks")
    rows = [
        [
            each.feature,
            f"{each.missing:.0%}",
            f"{each.zero:.0%}",
            *(portraits.short(value) for value in (each.mean, each.sd, *each.percentiles.values())),
            ", ".join(portraits.short(value) for value in each.breaks) or "-",
        ]
        for each in [each for each in made.signals if each.feature not in made.words][:MOST_ROWS]
    ]
    return Table(header, rows)
