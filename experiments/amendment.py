"""Amendment: a change to ab.yaml, shown as a difference, made with `apply`: a winner for everybody, a balanced seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import numpy as np
import polars as pl

from experiments.audience import Audience
from experiments.inference import goodness_of_fit
from features.behaviour.histories import Histories
from features.document import dumped, load
from features.draws import places
from features.errors import AnalysisError, nearest
from features.events.log import EventLog
from features.events.plan import Purpose
from features.files import rewrite
from features.project import Project
from serving import exposures
from serving.abtests import OTHER, AbTests, Experiment
from serving.assignment import ranges, stratum
from training.bundle import Bundle, current
from training.model import Scores


@dataclass(frozen=True)
class Amendment:
    """One key of one test.

    Attributes:
        path: Of the file.
        test: Whose.
        key: `winner` or `seed`.
        value: What it says then.
        why: In a sentence.
    """

    path: Path
    test: str
    key: str
    value: str
    why: str

    def text(self) -> str:
        """The whole file as it is then; comments and order stay."""
        document = load(self.path)
        document["tests"][self.test][self.key] = self.value
        return dumped(document)

    def apply(self) -> None:
        """Write the file; a service that follows it shows the change a second later."""
        rewrite(self.path, self.text())

    def __str__(self) -> str:
        name, before = self.path.name, dumped(load(self.path))
        lines = unified_diff(before.splitlines(), self.text().splitlines(), name, name, lineterm="", n=2)
        return "\n".join([self.why, "", *lines])

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {"file": str(self.path), "test": self.test, self.key: self.value, "why": self.why}


def declared(project: Project) -> AbTests:
    """The tests of a project, checked against its plan and what answers may name.

    Raises:
        DefinitionError: every fault of ab.yaml, with its line.
    """
    folder = current(project.path("bundles"))
    named = _named(Bundle.load(folder)) if folder is not None else None
    return AbTests.read(project.path("ab"), segments=named, plan=EventLog.of(project).plan)


def _named(bundle: Bundle) -> set[str]:
    """The segments that answers of a bundle may name."""
    studies = bundle.models.items()
    told = {f"{study}:{name}" for study, model in studies if model.kind != "propensity" for name in model.names}
    told |= {study for study, model in studies if model.kind == "propensity"}
    return told | set(bundle.segments.names if bundle.segments is not None else ())


def standing(project: Project, at: int) -> list[dict[str, object]]:
    """Every test as it stands, with the ids that were exposed to each arm: plain values.

    Raises:
        DefinitionError: every fault of ab.yaml, with its line.
    """
    shown = exposures.read(project.path("exposures")).group_by("test", "arm").agg(pl.col("user").n_unique())
    counts = {(test, arm): n for test, arm, n in shown.iter_rows()}
    return [
        {
            "test": name,
            "phase": test.phase(at),
            "share": test.share_at(at),
            "exposed": {arm: counts.get((name, arm), 0) for arm in test.arms},
        }
        for name, test in declared(project).tests.items()
    ]


def rollout(project: Project, test: str, arm: str | None = None) -> Amendment:
    """The arm that everybody sees from now on: the one named, else the one that the analysis says to ship.

    Raises:
        DefinitionError: ab.yaml is wrong, or has no such test.
        AnalysisError: the test has no such arm, or the analysis ships none.
    """
    found = declared(project).test(test)
    if arm is None:
        from experiments.exposed import Exposed

        decision = Exposed.of(project, test).analyze().decision
        if decision.arm is None:
            raise AnalysisError(f"{test!r}: {decision.answer}; {'; '.join(decision.reasons)}. Hint: name the arm.")
        arm = decision.arm
    if arm not in found.arms:
        raise AnalysisError(f"{test!r} has no arm {arm!r}. {nearest(arm, found.arms)}")
    return Amendment(project.path("ab"), test, "winner", arm, f"{arm!r} of {test!r} is shown to everybody")


def balance(project: Project, test: str, *, seeds: int = 200) -> Amendment:
    """The seed, of many, whose arms divide the strata of the people known today most evenly.

    Raises:
        DefinitionError: ab.yaml is wrong, or has no such test.
        AnalysisError: somebody was exposed already.
    """
    found = declared(project).test(test)
    if exposures.read(project.path("exposures"), test).height:
        raise AnalysisError(f"people have been exposed to {test!r}; another seed would draw others. Hint: a new test.")
    if not found.segments:
        raise AnalysisError(f"{test!r} names no segments to divide evenly. Hint: `segments: [...]` in ab.yaml.")
    strata = _strata(project, found)
    tried = {seed: _unevenness(found, seed, strata) for seed in (f"{test}-{k}" for k in range(seeds))}
    best = min(tried, key=lambda seed: tried[seed])
    people = ", ".join(f"{len(users):,} {name}" for name, users in strata.items())
    middle = float(np.median(list(tried.values())))
    why = f"of {seeds} seeds {best!r} divides {people} most evenly: chi-square {tried[best]:.3f}, median {middle:.3f}"
    return Amendment(project.path("ab"), test, "seed", best, why)


def _strata(project: Project, test: Experiment) -> dict[str, list[str]]:
    """Everybody who may be assigned, by the first of the test's segments that they are in."""
    audience = Audience.of(project)
    found: dict[str, list[str]] = {name: [] for name in (*test.segments, OTHER)}
    for histories in audience.everybody(Purpose.PERSONALISATION):
        for user, inside in zip(histories.users.tolist(), _inside(audience, histories), strict=True):
            found[stratum(test, inside)].append(user)
    return {name: users for name, users in found.items() if users}


def _inside(audience: Audience, histories: Histories) -> list[set[str]]:
    """Per row what the person is in: declared segments, and those of studies."""
    truths = audience.truths(histories, audience.at)
    scores = audience.scores(audience.matrix(histories, audience.at)).values()
    told = [_segments(each) for each in scores]
    return [{*truths.of(row), *(each[row] for each in told)} for row in range(len(histories))]


def _segments(scores: Scores) -> list[str]:
    """The segment that these scores put each row in; empty for none."""
    if scores.cluster is not None:
        return [f"{scores.study}:{scores.names[place]}" for place in scores.cluster.tolist()]
    return [scores.study if inside else "" for inside in scores.chosen.tolist()]


def _unevenness(test: Experiment, seed: str, strata: Mapping[str, list[str]]) -> float:
    """The largest chi-square of a stratum's arms against their weights."""
    bounds = list(ranges(test, 1.0).values())
    edges, weights = [low for low, _ in bounds], [high - low for low, high in bounds]
    drawn = ((np.searchsorted(edges, places(seed, users), "right") - 1) for users in strata.values())
    return max(goodness_of_fit(np.bincount(arm, minlength=len(edges)).tolist(), weights).statistic for arm in drawn)
