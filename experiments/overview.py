"""Overview: `reports/index.html`, one page over all that the project's reports say, made anew by every turn."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import pages
from experiments.pages import Table
from experiments.release import standing
from features.instants import DAY, from_datetime, iso, parse_instant
from features.project import Project

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = "index.html"
SHOWN = 40
"""Looks and decisions in a table; pictures show all."""
QUALITY = ("roc_auc", "log_loss")
Document = Mapping[str, Any]


def overview(project: Project) -> Path:
    """Write the page from the documents below the project's `reports`, and from the registry.

    Raises:
        AnalysisError: the page cannot be written.
    """
    place = project.path("reports")
    looks, decisions = _documents(place, "drift-*/drift.json"), _documents(place, "loop-*/loop.json")
    parts = [
        _newest(decisions),
        _drift(place, looks),
        _decisions(place, decisions),
        _studies(project, place),
        pages.section("A/B tests", *_pages(place, "ab")),
        pages.section("Figures of the business", *_pages(place, "kpi")),
    ]
    return pages.write(place / PAGE, pages.page(project.name, "Is it still true, and did it help?", *parts))


def _documents(place: Path, pattern: str) -> list[tuple[Path, Document]]:
    """(file, document) in order of time, each with its instant `at`; a look tells it by its folder."""
    found = []
    for path in place.glob(pattern):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            at = document.get("at") or iso(from_datetime(datetime.strptime(path.parent.name, "drift-%Y%m%dT%H%M%S%z")))
            found.append((parse_instant(at), path, {**document, "at": at}))
        except (OSError, ValueError, AttributeError, TypeError):
            continue
    return [(path, document) for _, path, document in sorted(found, key=lambda each: each[:2])]


def _newest(decisions: Sequence[tuple[Path, Document]]) -> str:
    if not decisions:
        return pages.verdict("no decision yet", ["`ethogram loop run --once` takes a turn"])
    newest = decisions[-1][1]
    good = {"promoted": True, "confirmed": True, "rolled back": False}.get(newest["answer"])
    return pages.verdict(f"{newest['at']}: {newest['answer']}", newest["reasons"], good=good)


def _drift(place: Path, looks: Sequence[tuple[Path, Document]]) -> str:
    if not looks:
        return pages.section("Drift", pages.note("nothing was looked at yet"))
    rows = [(each["at"], each["verdict"], str(len(each["moved"]))) for _, each in looks[-SHOWN:]]
    drawn = pages.picture(partial(_moves, looks), height=2.6, title="drift over time", fitted=False)
    links = [pages.link(f"newest look, {looks[-1][1]['at']}", _beside(place, looks[-1][0], "drift.html"))]
    table = Table(("answers until", "verdict", "moved"), rows[::-1], texts=2)
    return pages.section("Drift", drawn, *links, pages.folded("every look", table.html()))


def _moves(looks: Sequence[tuple[Path, Document]], axes: Sequence["Axes"]) -> None:
    """How many tests moved at every look."""
    times = _days([each["at"] for _, each in looks])
    alarms = ["#b91c1c" if each["verdict"] == "drift" else "#15803d" for _, each in looks]
    axes[0].plot(times, [len(each["moved"]) for _, each in looks], color="#9ca3af", linewidth=1)
    axes[0].scatter(times, [len(each["moved"]) for _, each in looks], c=alarms, zorder=3)
    axes[0].set(xlabel="days before the newest answer", ylabel="tests that moved")
    axes[0].set_ylim(bottom=-0.5)


def _days(instants: Sequence[str]) -> list[float]:
    """Days up to the last of them, negative."""
    parsed = [parse_instant(each) for each in instants]
    return [(each - parsed[-1]) / DAY for each in parsed]


def _decisions(place: Path, decisions: Sequence[tuple[Path, Document]]) -> str:
    if not decisions:
        return ""
    rows = [(each["at"], each["answer"], "; ".join(each["triggers"])[:120]) for _, each in decisions[-SHOWN:]]
    live = [(document, duel) for _, document in decisions for duel in document["duels"] if duel["difference"]]
    drawn = (
        pages.picture(partial(_contests, live), panels=2, height=3.2, title="contests", fitted=False) if live else ""
    )
    links = [
        pages.link(f"{each['at']}: {each['answer']}", _beside(place, path, "loop.html"))
        for path, each in decisions[::-1][:SHOWN]
        if each["answer"] not in ("nothing to do", "waiting", "paused")
    ]
    table = Table(("at", "decision", "because"), rows[::-1], texts=3)
    return pages.section("Decisions", drawn, *links, pages.folded("every turn", table.html()))


def _contests(live: Sequence[tuple[Document, Document]], axes: Sequence["Axes"]) -> None:
    """Champion and challenger at every decision that compared them, with the interval of the difference."""
    for axis, metric in zip(axes, QUALITY, strict=True):
        times = _days([document["at"] for document, _ in live])
        for side, colour in (("champion", "#1b1f24"), ("challenger", "#2f6db5")):
            axis.plot(times, [duel[side][metric]["value"] for _, duel in live], "o-", color=colour, label=side, ms=4)
        for time, (document, duel) in zip(times, live, strict=True):
            if document["answer"] in ("promoted", "rolled back"):
                axis.axvline(time, color="#15803d" if document["answer"] == "promoted" else "#b91c1c", linestyle=":")
            base, apart = duel["champion"][metric]["value"], duel["difference"][metric]
            axis.plot([time, time], [base + apart["low"], base + apart["high"]], color="#2f6db5", alpha=0.5)
        axis.set(title=metric, xlabel="days before the newest event")
    axes[0].legend(frameon=False)


def _studies(project: Project, place: Path) -> str:
    if not project.file("studies.yaml").exists():
        return ""
    rows = [(each.name, each.question, str(each.version or "-"), each.verdict[:100]) for each in standing(project)]
    cards = sorted(place.glob("study-*/card.html"))
    links = [pages.link(f"model card: {path.parent.name[6:]}", _beside(place, path, path.name)) for path in cards]
    return pages.section("Studies", Table(("study", "asks", "version", "verdict"), rows, texts=4).html(), *links)


def _pages(place: Path, word: str) -> Iterator[str]:
    """Links to the pages whose name, or whose folder's, begins with a word."""
    files = sorted({*place.glob(f"{word}*.html"), *place.glob(f"{word}*/*.html")})
    yield from (pages.link(str(path.relative_to(place)), path.relative_to(place).as_posix()) for path in files)
    if not files:
        yield pages.note("none yet")


def _beside(place: Path, document: Path, name: str) -> str:
    return (document.parent / name).relative_to(place).as_posix()
