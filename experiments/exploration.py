"""Exploration: a project's features, an outcome and what people do, looked at before anything is modelled."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments import sequences
from experiments.declared import Declared
from experiments.journeys import Asked, Cut, Journeys, dormant, propose_steps
from experiments.occurrences import Occurrences
from experiments.proposals import Proposal, propose, ratio, text
from experiments.question import Question
from experiments.sequences import Trail
from experiments.signals import Signal, signals, varied
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import StateSchema
from features.errors import AnalysisError, nearest
from features.events.log import EventLog
from features.events.plan import Purpose
from features.instants import DAY, format_duration, iso
from features.people import hash_text
from features.project import Project
from training.label import Label

Array = NDArray[np.float64]
Progress = Callable[[str], None]

MOST_USERS = 1_000_000
"""Persons that are looked at; of more, so many are drawn by a hash of their ids."""
LOOK_BACK = 30 * DAY
"""Before the instant of the rows, that sequences are sought in."""
PLACES = (("x", "y"), ("page_x", "page_y"), ("click_x", "click_y"), ("client_x", "client_y"))
"""Properties that are where on a page."""


@dataclass(frozen=True)
class Exploration:
    """What was found.

    Attributes:
        project: Its name.
        question: What was asked.
        matrix: One row a person.
        y: The outcome, shape (n_rows,); None without one.
        words: Of categories, what the values are called that their numbers are places of.
        sample: Whom of the log.
        refused: Of those, who gave no consent to analytics and are not in `journeys`.
        signals: Every feature, the most telling first.
        telling: Of those, the ones that no more telling one is like.
        asked: What `journeys` answers.
        journeys: What people did.
        trails: Sequences compared, from what goes with most of the outcome to what goes with least.
        cut: Where active ends and dormant begins; None with too few returns.
        proposals: Definitions.
        notes: What is missing, and how to get it.
        files: Pages, pictures and documents by name, once they are written.
    """

    project: str
    question: Question
    matrix: FeatureMatrix
    y: Array | None
    words: Mapping[str, tuple[str, ...]]
    sample: "Sample"
    refused: int
    signals: tuple[Signal, ...]
    telling: tuple[Signal, ...]
    asked: Asked
    journeys: Journeys
    trails: tuple[Trail, ...]
    cut: Cut | None
    proposals: tuple[Proposal, ...]
    notes: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def binary(self) -> bool:
        """Whether the outcome is 0 or 1."""
        return self.y is not None and set(np.unique(self.y)) <= {0.0, 1.0}

    @property
    def looked_at(self) -> int:
        """Persons with an event of no bot."""
        return self.journeys.persons + self.refused

    @property
    def holding(self) -> list[Trail]:
        """Sequences that go with more of the outcome, the surest first, each step from one event to the next once."""
        return sequences.distinct([each for each in self.trails if each.holds and each.lift.low > 0])

    @property
    def title(self) -> str:
        """What was looked at, in a sentence."""
        base = f", on average {float(self.y.mean()):.4g}" if self.y is not None else ""
        outcome = f"; outcome: {self.question.outcome}{base}" if self.question.outcome else "; no outcome"
        return f"{len(self.matrix):,} users ({self.question.population}) as of {iso(self.question.at)}{outcome}"

    @property
    def sampling(self) -> str:
        """Whether everybody was looked at."""
        if self.sample.drawn:
            return f"a sample: {self.looked_at:,} of {self.sample.persons:,} persons, drawn by a hash of their ids"
        return f"all {self.looked_at:,} persons of the log"

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        names, sums = self.asked.names, self.journeys
        return {
            "project": self.project,
            "outcome": self.question.outcome,
            "study": self.question.study,
            "population": str(self.question.population),
            "at": iso(self.question.at),
            "users": len(self.matrix),
            "mean_outcome": float(self.y.mean()) if self.y is not None else None,
            "persons": self.sample.persons,
            "looked_at": self.looked_at,
            "without_consent": self.refused,
            "features": [each.to_dict() for each in self.signals],
            "events": [
                {"event": name, "events": int(sums.events[place]), "persons": int(sums.reach[place])}
                for place, name in enumerate(names)
            ],
            "funnel": [
                {"step": step, "persons": int(sums.passed[place])} for place, step in enumerate(self.asked.steps)
            ],
            "active": {"event": self.asked.goal, "days": self.cut.days, "share": self.cut.share} if self.cut else None,
            "sequences": [each.to_dict() for each in self.trails],
            "retention": {"period": format_duration(self.asked.period), "due": sums.due.tolist()}
            | {"active": sums.active.tolist()},
            "proposals": [each.to_dict() for each in self.proposals],
            "notes": list(self.notes),
            "files": {name: str(path) for name, path in self.files.items()},
        }

    def __str__(self) -> str:
        lines = [f"explored {self.project}: {self.title}", f"  {self.sampling}"]
        lines += [f"  {line}" for line in self._found()]
        for file, document in text(self.proposals).items():
            lines += ["", f"proposed for {file}:", *(f"  {line}" for line in document.splitlines())]
        lines += ["", *(f"note: {note}" for note in self.notes)] if self.notes else []
        shown = {name: path for name, path in self.files.items() if path.suffix != ".png"}
        pictures = len(self.files) - len(shown)
        lines += ["", *(f"{name}: {path}" for name, path in shown.items())]
        return "\n".join([*lines, f"{pictures} pictures beside them"] if pictures else lines)

    def _found(self) -> Iterator[str]:
        for each in self.telling[:5]:
            if each.bits > 0:
                lift = f", {ratio(each.lift.value)} the outcome" if each.lift else ""
                where = f", {each.told} in {each.share:.0%} of the users{lift}" if each.split else ""
                yield f"{each.feature}: {each.bits:.4f} bits{where}"
        if self.cut is not None:
            yield f"{self.cut.share:.0%} of those who do {self.asked.goal} again have done so by day {self.cut.days}"
        if len(self.asked.steps) > 1 and self.journeys.passed[0]:
            passed = ", ".join(
                f"{step} {count:,}" for step, count in zip(self.asked.steps, self.journeys.passed, strict=True)
            )
            yield f"funnel: {passed}"
        for trail in self.holding[:3]:
            yield f"{trail}: {ratio(trail.lift.value)} the outcome in {trail.share:.0%} of the users"


def explore(
    project: Project,
    *,
    study: str | None = None,
    label: Label | None = None,
    feature: str | None = None,
    at: int | None = None,
    goal: str | None = None,
    steps: Sequence[str] = (),
    most: int = MOST_USERS,
    progress: Progress | None = None,
) -> Exploration:
    """Look at a project. `album.write` makes a page of what was seen.

    Args:
        project: Its log, features and studies are used.
        study: Take the question of this study (default, without any question: that of the first propensity).
        label: Ask this instead.
        feature: Or take this declared feature as the outcome, such as a life-time value.
        at: Instant of the rows (default: the study's newest training cut, or the newest midnight that has one).
        goal: The event that is a purchase (default: the outcome's, else one with a money property).
        steps: The funnel (default: proposed from what buyers do).
        most: Persons to look at.
        progress: Told of every step.

    Raises:
        StudyError: an unknown study, or a log too short for the label.
        AnalysisError: an unknown feature or event.
    """
    say = progress or (lambda _line: None)
    declared = Declared.of(project)
    log, features = declared.log, declared.features
    question = Question.of(declared, study=study, label=label, feature=feature, at=at)
    say(f"rows as of {iso(question.at)}")
    sample = Sample(log, most)
    asked = _asked(log, sample, question, goal=goal, steps=steps)
    matrix, y, words = question.rows(declared, sample)
    say(f"{len(matrix):,} users, {len(matrix.names)} features")
    found = tuple(signals(matrix, y, words))
    telling = tuple(varied(found, matrix, words))
    outcome = {} if y is None else dict(zip(matrix.users.tolist(), y.tolist(), strict=True))
    journeys, trails, refused = _journeys(log, sample, asked, outcome, question.at, say)
    cut = dormant(journeys.returns, journeys.open)
    what = project.name, question, matrix, y, words, sample, refused, found, telling, asked, journeys, trails, cut
    made = Exploration(*what, proposals=())
    proposals = propose(telling, made.holding[:3], cut, asked.goal, features)
    return replace(made, proposals=proposals, notes=tuple(_notes(made, project)))


class Sample:
    """A log of at most so many persons, drawn by a hash of their ids: the same ones every time."""

    def __init__(self, log: EventLog, most: int) -> None:
        self.log = log
        self.persons = log.compact().users
        self.drawn = self.persons > most
        self._limit = int((1 << 32) * most / max(self.persons, 1))

    def span(self) -> tuple[int, int]:
        """First and last `ts`."""
        return self.log.span()

    def histories_by_bucket(self, schema: StateSchema) -> Iterator[Histories]:
        """The drawn persons' histories, a bucket at a time."""
        for histories in self.log.histories_by_bucket(schema):
            if not self.drawn:
                yield histories
                continue
            drawn = [hash_text("sample" + user) % (1 << 32) < self._limit for user in histories.users]
            yield histories.take(np.flatnonzero(drawn))


def _asked(log: EventLog, sample: Sample, question: Question, *, goal: str | None, steps: Sequence[str]) -> Asked:
    names = tuple(name for name, _ in sorted(log.codes.codes.items(), key=lambda each: each[1]))
    for name in (*([goal] if goal else ()), *steps):
        if name not in names:
            raise AnalysisError(f"unknown event {name!r}. {nearest(name, names)}")
    first, last = log.span()
    numeric = {name for name, spec in log.plan.properties.items() if spec.numeric}
    place = next((pair for pair in PLACES if numeric.issuperset(pair)), ())
    asked = Asked(names, first, last, goal or question.goal(log, names), tuple(steps), place)
    if steps or asked.goal is None:
        return asked
    schema = StateSchema.of(log.plan, log.codes.codes, set())
    some = next(iter(sample.histories_by_bucket(schema)))
    return replace(asked, steps=propose_steps(Occurrences.of(some, last), asked.goal))


def _journeys(
    log: EventLog, sample: Sample, asked: Asked, outcome: Mapping[str, float], at: int, say: Progress
) -> tuple[Journeys, tuple[Trail, ...], int]:
    schema = StateSchema.of(log.plan, log.codes.codes, set(asked.place))
    sums: Journeys | None = None
    counts, refused = [], 0
    for histories in sample.histories_by_bucket(schema):
        allowed = np.flatnonzero(histories.consent() & Purpose.ANALYTICS.bit)
        mine, refused = histories.take(allowed), refused + len(histories) - len(allowed)
        found = Journeys.of(Occurrences.of(mine, asked.last, properties=asked.place), asked)
        sums = found if sums is None else sums + found
        if outcome:
            before = Occurrences.of(mine, at)
            counts.append(sequences.counts(before.take(before.ts > at - LOOK_BACK), outcome))
        say(f"{sums.persons:,} persons' events")
    if sums is None:
        raise AnalysisError("there is nobody in the log to look at.")
    trails = sequences.compared(sequences.joined(counts), asked.names) if counts else []
    return sums, tuple(trails), refused


def _notes(made: Exploration, project: Project) -> Iterator[str]:
    """What is missing, and how to get it."""
    if made.question.outcome is None:
        yield "no outcome: `ethogram explore STUDY`, or `--did EVENT --within 30d`, or `--outcome FEATURE`"
    elif made.y is not None and len(np.unique(made.y)) < 2:
        yield f"the outcome is {made.y[0]:g} for everybody: a longer `--within`, or another one"
    if made.asked.goal is None:
        yield "no event is known to be a purchase: `--purchase EVENT`"
    elif made.cut is None:
        yield f"{len(made.journeys.returns)} returns to {made.asked.goal} are too few for an active/dormant cut"
    elif made.cut.rising:
        yield f"buyers still come back at day {made.cut.horizon:.0f}, where the log ends: a longer log moves the cut"
    if made.cut is not None and made.cut.days * DAY > project.settings.horizon:
        yield f"{made.cut.days} days are longer than the horizon: set `horizon: {made.cut.days}d` in ethogram.yaml"
    if len(made.asked.steps) < 2:
        yield "no funnel: `--funnel A,B,C` names its steps"
    if not made.asked.place:
        yield "no click positions: numeric properties `x` and `y` on the click event give a picture of where"
    if made.refused:
        yield f"{made.refused:,} persons are left out of what people do: they gave no consent to analytics"
