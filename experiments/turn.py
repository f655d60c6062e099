"""Turn: what one turn of the loop decided, with its numbers and reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments import duel, pages
from experiments.duel import Duel
from experiments.plain import Plain

Answer = Literal[
    "promoted",
    "kept",
    "nothing to do",
    "in shadow",
    "in test",
    "waiting",
    "approval needed",
    "confirmed",
    "rolled back",
    "vetoed",
    "paused",
]
GOOD = {"promoted": True, "confirmed": True, "rolled back": False}


@dataclass(frozen=True)
class Studied:
    """A study that was run again.

    Attributes:
        study: Its name.
        version: Of the registered challenger; None where the study refused its own result.
        verdict: The study's own.
        run_id: MLflow's.
    """

    study: str
    version: int | None
    verdict: str
    run_id: str

    def __str__(self) -> str:
        kept = f"version {self.version}" if self.version else "no model"
        return f"{self.study}: {kept}, {self.verdict}"


@dataclass(frozen=True)
class Decision(Plain):
    """What was done, and why.

    Attributes:
        answer: `promoted`; `kept`: the champion stays; `nothing to do`; `in shadow`: a challenger scores beside the
            champion from now on; `waiting`: for outcomes; `in test`: some people see its answers; `approval needed`:
            by a person; `confirmed`: what was promoted stays; `rolled back`; `vetoed`; `paused`.
        triggers: Why studies were run; empty: they were not.
        notes: What else was looked at.
        studied: The studies that were run.
        duels: Challenger against champion, one per propensity that both have.
        reasons: Why this answer.
        drift: The drift verdict; None where nothing could be judged.
        versions: Per study the version that is served from now on; empty where nothing changed.
        run_id: MLflow's, of the decision.
        files: Pages and documents by name.
        at: The log's newest event, microseconds UTC.
        figures: What else was counted, by name.
    """

    INSTANTS = ("at",)

    answer: Answer
    triggers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    studied: tuple[Studied, ...] = ()
    duels: tuple[Duel, ...] = ()
    reasons: tuple[str, ...] = ()
    drift: str | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    run_id: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    at: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        blocks = [("because", self.triggers), ("seen", self.notes), ("studied", tuple(map(str, self.studied)))]
        lines = [f"loop: {self.headline}"]
        for title, entries in [*blocks, ("decided", self.reasons)]:
            lines += [f"{title}:", *(f"  - {entry}" for entry in entries)] if entries else []
        if any(fought.rows() for fought in self.duels):
            lines += ["", duel.table(self.duels).text()]
        lines += [f"{name}: {path}" for name, path in self.files.items()]
        return "\n".join([*lines, f"run {self.run_id}"] if self.run_id else lines)

    @property
    def headline(self) -> str:
        """The answer and what is served."""
        served = ", ".join(f"{study} version {version}" for study, version in self.versions.items())
        return f"{self.answer}{f': {served}' if served else ''}"

    def metrics(self) -> dict[str, float]:
        """Figures for the tracking run: every paired difference with its ends, and what was counted."""
        return dict(self.figures) | {
            f"{fought.study}.{metric}.{end}": value
            for fought in self.duels
            for metric, apart in fought.difference.items()
            for end, value in (("difference", apart.value), ("low", apart.low), ("high", apart.high))
        }

    def to_html(self) -> str:
        """One self-contained page."""
        return pages.page(
            "A turn of the loop",
            "Drift or schedule, study, comparison on the newest outcomes, promotion",
            pages.verdict(self.headline, self.reasons, good=GOOD.get(self.answer)),
            pages.section("Why studies were run", pages.listing(self.triggers)),
            pages.section("Seen", pages.listing(self.notes)),
            pages.section("Studied", pages.listing(map(str, self.studied))),
            pages.section("Challenger against champion", duel.table(self.duels).html()),
        )
