"""Album: an exploration as one self-contained page, its pictures beside it, and a document for programs."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments import pages, portraits, scenes
from experiments.pages import Table
from experiments.portraits import Album
from experiments.proposals import ratio, text
from experiments.sequences import Trail, distinct
from experiments.signals import PERCENTILES, Signal

if TYPE_CHECKING:
    from experiments.exploration import Exploration

MOST_ROWS = 40


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
    if picture := portraits.outcome(album, made):
        yield pages.section("The outcome", picture)
    yield from _features(made, album)
    yield from _behaviour(made, album)


def headline(made: "Exploration") -> str:
    """What a reader takes home, in one sentence."""
    if made.y is None:
        return f"{len(made.signals)} features, no outcome"
    best = next((each for each in made.telling if each.lift is not None and each.bits > 0), None)
    if best is None or best.lift is None:
        return "no single feature says anything of the outcome"
    return f"{best.feature} {best.told} says most: {ratio(best.lift.value)} the outcome of all others"


def _features(made: "Exploration", album: Album) -> Iterator[str]:
    if picture := portraits.association(album, made):
        why = (
            "Mutual information with the outcome, its bias taken away, and the cut of each feature that tells most. "
            "A cut is chosen on one half of the users and judged on the other."
        )
        numbers = pages.folded("The numbers", _said(made).html(), _rest(len(made.signals)))
        yield pages.section("What single features say", pages.note(why), picture, numbers)
    if picture := portraits.thresholds(album, made):
        why = "Natural breaks are on the cleaned scale. Bars: about tenths of the users."
        yield pages.section("Thresholds", pages.note(why), picture)
    if picture := portraits.distributions(album, made):
        yield pages.section("Before and after cleaning", picture)
    if picture := portraits.correlations(album, made):
        yield pages.section("Correlations", pages.note("Spearman's, like beside like."), picture)
    if made.signals:
        shown = [each for each in made.signals if each.feature not in made.words][:MOST_ROWS]
        numbers = pages.folded("Means, percentiles, breaks", _numbers(shown).html())
        yield pages.section("All features", numbers, _rest(len(made.signals)))


def _rest(n: int) -> str:
    return pages.note(f"{n - MOST_ROWS} more in explore.json") if n > MOST_ROWS else ""


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


def _numbers(shown: list[Signal]) -> Table:
    header = ("feature", "missing", "zero", "mean", "sd", *(f"p{each}" for each in PERCENTILES), "natural breaks")
    rows = [
        [
            each.feature,
            f"{each.missing:.0%}",
            f"{each.zero:.0%}",
            *(portraits.short(value) for value in (each.mean, each.sd, *each.percentiles.values())),
            ", ".join(portraits.short(value) for value in each.breaks) or "-",
        ]
        for each in shown
    ]
    return Table(header, rows)


def _behaviour(made: "Exploration", album: Album) -> Iterator[str]:
    if picture := scenes.returns(album, made):
        why = "Buyers who have not come back count as long as they were watched; purchases within half an hour are one."
        yield pages.section("Active or dormant", pages.note(why), picture)
    if picture := scenes.funnel(album, made):
        yield pages.section("Funnel", pages.note("Each step at its first chance behind the one before."), picture)
    if picture := scenes.transitions(album, made):
        yield pages.section("What follows what", pages.note("Per cent of each row, within a session."), picture)
    yield from _trails(made, album)
    if picture := scenes.hours(album, made):
        yield pages.section("When", pages.note("By the hour and weekday where the person was."), picture)
    if picture := scenes.places(album, made):
        yield pages.section("Where on the page", picture)
    if picture := scenes.retention(album, made):
        yield pages.section("Retention", pages.note("Per cent who did anything; only whole periods count."), picture)


def _trails(made: "Exploration", album: Album) -> Iterator[str]:
    more = made.holding[: scenes.MOST_TRAILS // 2]
    less = distinct([each for each in reversed(made.trails) if each.holds and each.lift.high < 0])[:4]
    if picture := scenes.trails(album, [*more, *less]):
        why = (
            f"Events in a row within one session, in the 30 days before. {len(made.trails):,} were compared; those "
            "shown hold after Holm's correction over all of them."
        )
        yield pages.section("Sequences", pages.note(why), picture, _table([*more, *less], binary=made.binary).html())


def _table(shown: list[Trail], *, binary: bool) -> Table:
    header = ("sequence", "users", "outcome", "against others", "95 % interval", "p (Holm)")
    rows = [
        [
            str(each),
            f"{each.share:.0%}",
            f"{each.inside:.1%}" if binary else f"{each.inside:,.4g}",
            ratio(each.lift.value),
            f"{ratio(each.lift.low)} - {ratio(each.lift.high)}",
            pages.probability(each.adjusted),
        ]
        for each in shown
    ]
    return Table(header, rows)
