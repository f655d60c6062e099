"""Contest: champion and the bundle beside it on the same live answers, before a promotion and after it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from experiments import release
from experiments.audition import CHALLENGER, audition, end
from experiments.course import Course, heard, words
from experiments.duel import Duel, duel
from experiments.pairs import Pairs, pairs
from experiments.policy import Policy, Shadow
from experiments.studies import OfLog, PropensitySpec
from experiments.study import DIGEST
from experiments.tracking import CHAMPION, Registered, Tracking
from experiments.turn import Answer, Decision
from features.errors import BundleError
from features.events.log import EventLog
from features.instants import DAY
from features.project import Project
from training.bundle import Bundle

Progress = Callable[[str], None]
Reasons = tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """What is known by now.

    Attributes:
        duels: One per study whose models differ.
        seen: What each of them is fought on.
    """

    duels: tuple[Duel, ...] = ()
    seen: tuple[Pairs, ...] = ()

    @property
    def figures(self) -> dict[str, float]:
        """What was counted, by study and name."""
        return {
            f"{fought.study}.{name}": float(count)
            for fought, found in zip(self.duels, self.seen, strict=True)
            for name, count in (
                ("answers", found.answers),
                ("matured", len(found.y)),
                ("outcomes", found.outcomes),
                ("coverage", found.coverage),
            )
        }


NOTHING = Look()


@dataclass(frozen=True)
class Contest:
    """One look at a contest.

    Attributes:
        project: The project.
        log: Its event log.
        champion: The published bundle.
        specs: The declared studies.
        policy: What must be shown.
        course: Where the loop stands: anywhere but `resting`.
    """

    project: Project
    log: EventLog
    champion: Bundle
    specs: dict[str, OfLog]
    policy: Policy
    course: Course

    @property
    def now(self) -> int:
        """The log's newest event."""
        return self.log.span()[1]

    @property
    def beside(self) -> Registered:
        """The registered bundle beside the champion.

        Raises:
            BundleError: the registry has lost it.
        """
        versions = Tracking(self.project).versions(self.project.name)
        found = next((each for each in versions if each.version == self.course.version), None)
        if found is None:
            raise BundleError(f"version {self.course.version} is not registered any more. Hint: `ethogram loop veto`.")
        return found

    def judged(self) -> Look:
        """A duel per study whose models differ, on the answers whose outcomes are known."""
        duels, seen = [], []
        for name in self.course.fresh:
            spec = self.specs.get(name)
            if not isinstance(spec, PropensitySpec) or spec.predicts.asks_which:
                continue
            asked = self.project, self.log, self.champion, name, spec
            found = pairs(*asked, beside=self.course.digest, since=self.course.since)
            seen.append(found)
            at = int(found.at.max(initial=self.course.since))
            sides = (found.y, found.champion, found.challenger)
            duels.append(duel(name, *sides, found.users, at=at, level=0.05 / 2 ** len(self.course.looks)))
        return Look(tuple(duels), tuple(seen))

    def turned(self, say: Progress) -> tuple[Decision, Course]:
        """What is decided now, and where the loop stands after it."""
        decision, course = self._turned(say)
        if course.version != self.course.version:
            heard(self.project)
        return decision, course

    def _turned(self, say: Progress) -> tuple[Decision, Course]:
        said = words(self.project)
        veto, approval = (said.get(f"{word} {self.course.version}") for word in ("veto", "approve"))
        if self.champion.digest != self.course.champion:
            return self._ended("kept", ("another bundle was released meanwhile, so there is nothing to compare",))
        if veto is not None:
            vetoed = (f"vetoed by {veto}",)
            return self._back(vetoed) if self.course.phase == "watching" else self._ended("vetoed", vetoed)
        say("comparing champion and challenger on live answers whose outcomes are known")
        look = self.judged()
        if self.course.phase == "watching":
            return self._watched(look)
        reasons = tuple(self._missing(look))
        if reasons and self.now - self.course.since < self._horizon + self._at_most:
            if approval is not None:
                reasons = (*reasons, f"approved beforehand by {approval}")
            return self._said("waiting", reasons, look), self.course
        if reasons:
            return self._ended("kept", (*reasons, "it was waited long enough, the champion stays"), look)
        failed = {each.study: list(self.policy.gates.failed(each)) for each in look.duels}
        faults = tuple(fault for each in failed.values() for fault in each)
        winners = [study for study, each in failed.items() if not each]
        if not winners or (faults and not self._mixes):
            looks = (*self.course.looks, min(map(self._span, look.seen)))
            unsure = all(not failed[each.study] or self.policy.gates.unsure(each) for each in look.duels)
            if unsure and self.course.phase == "shadow" and 2 * looks[-1] <= self._at_most:
                told = f"the ranking is looked at again with {2 * looks[-1] / DAY:.1f} days of answers"
                return self._said("waiting", (*faults, told), look), replace(self.course, looks=looks)
            return self._ended("kept", (*faults, "the challenger did not show it, so the champion stays"), look)
        wins = (*faults, *(str(each) for each in look.duels if each.study in winners))
        return self._won(winners, wins, look, approval)

    def _won(self, winners: list[str], wins: Reasons, look: Look, approval: str | None) -> tuple[Decision, Course]:
        """What is better on the same answers: do people say so too, and does a person agree?"""
        if self.policy.ab is not None and self.course.version is not None:
            if len(winners) < len(look.duels):
                return self._ended("kept", (*wins, "what is tested on people has to win as a whole"), look)
            told = audition(self.project, self.policy.ab, self.course.version, now=self.now)
            if told is None:
                course = replace(self.course, phase="test")
                return self._said("in test", (*wins, "some people see its answers (ab.yaml)"), look), course
            wins = (*wins, f"the test on people: {told.answer}", *told.reasons)
            if told.arm != CHALLENGER:
                return self._ended("kept", wins, look)
        if self.policy.approval == "person" and approval is None:
            course = replace(self.course, phase="approval")
            return self._said("approval needed", (*wins, "`ethogram loop approve` or `veto`"), look), course
        return self._promoted(winners, wins if approval is None else (*wins, f"approved by {approval}"), look)

    @property
    def _mixes(self) -> bool:
        """Whether some of the challenger's models may go without the others: only over the same features."""
        bundle = Bundle.load(self.project.path("bundles") / self.course.digest)
        return bundle.features.fingerprint == self.champion.features.fingerprint

    @property
    def _at_most(self) -> int:
        return self.policy.shadow.at_most if self.policy.shadow else 0

    @property
    def _horizon(self) -> int:
        return max((spec.predicts.horizon + spec.blind_spot for spec in self._asked()), default=0)

    def _span(self, found: Pairs) -> int:
        return max(int(found.at.max(initial=0)) - self.course.since, 0)

    def _asked(self) -> Iterator[PropensitySpec]:
        for name in self.course.fresh:
            if isinstance(spec := self.specs.get(name), PropensitySpec):
                yield spec

    def _missing(self, look: Look) -> Iterator[str]:
        """What must be waited for."""
        shadow = self.policy.shadow or Shadow(at_least=1)
        asked = max(shadow.at_least, 2 * max(self.course.looks, default=0))
        if not look.seen:
            yield "no study of the challenger can be judged on live answers"
        for fought, found in zip(look.duels, look.seen, strict=True):
            kept = f"{found.outcomes} outcomes of the rarer kind of {shadow.outcomes}"
            if found.outcomes < shadow.outcomes:
                yield f"{fought.study}: not enough data, {kept}"
            span = self._span(found)
            if span < asked and found.outcomes >= shadow.outcomes:
                yield f"{fought.study}: outcomes of {span / DAY:.1f} days of answers, {asked / DAY:.1f} are asked"
            if found.coverage < self.policy.gates.coverage:
                yield f"{fought.study}: the challenger gave {found.coverage:.1%} of the {found.answers:,} answers"

    def _promoted(self, winners: list[str], reasons: Reasons, look: Look) -> tuple[Decision, Course]:
        made, before = self.beside, Tracking(self.project).alias(self.project.name, CHAMPION)
        try:
            if len(winners) == len(look.duels):
                release.check_answers(self.project)
                promotion = release.crown(self.project, made)
            else:
                mine = {study: version for study, version in release.models_of(made).items() if study in winners}
                promotion = release.promote(self.project, versions={**release.served(self.project), **mine})
        except BundleError as problem:
            return self._ended("kept", (*reasons, str(problem)), look)
        self._close()
        course = self.course.rested()
        watched = before is not None and self.policy.watch is not None
        release.beside(self.project, before if watched else None)
        if before is not None and watched:
            course = replace(
                course,
                phase="watching",
                since=self.now,
                version=before.version,
                digest=before.tags[DIGEST],
                fresh=tuple(winners),
                champion=promotion.digest,
            )
        return self._said("promoted", reasons, look, promotion.models), course

    def _watched(self, look: Look) -> tuple[Decision, Course]:
        """Back to the bundle before where that is better by now; done when it was watched long enough."""
        better = [str(each) for each in look.duels if self._returns(each)]
        if better:
            return self._back((*better, "what was served before is better, so it is served again"), look)
        try:
            release.check_answers(self.project)
        except BundleError as problem:
            return self._back((str(problem),), look)
        if self.now - self.course.since < (self.policy.watch or 0) + self._horizon:
            told = ("what was promoted is watched", *map(str, look.duels))
            return self._said("waiting", told, look), self.course
        return self._ended("confirmed", (*map(str, look.duels), "what was promoted is not worse"), look)

    def _returns(self, fought: Duel) -> bool:
        """Whether what was served before is better, and no guardrail of it worse: as much as its successor showed."""
        return fought.verdict == "better" and not any(self.policy.gates.guarded(fought))

    def _back(self, reasons: Reasons, look: Look = NOTHING) -> tuple[Decision, Course]:
        promotion = release.crown(self.project, self.beside)
        release.beside(self.project, None)
        return self._said("rolled back", reasons, look, promotion.models), self.course.rested()

    def _close(self) -> None:
        """Nobody sees the challenger's answers any more."""
        if self.course.version is not None:
            end(self.project, self.course.version)

    def _ended(self, answer: Answer, reasons: Reasons, look: Look = NOTHING) -> tuple[Decision, Course]:
        release.beside(self.project, None)
        self._close()
        return self._said(answer, reasons, look), self.course.rested()

    def _said(
        self, answer: Answer, reasons: Reasons, look: Look, versions: Mapping[str, int] | None = None
    ) -> Decision:
        notes, told = (str(self.course),), versions or {}
        return Decision(answer, (), notes, (), look.duels, reasons, versions=told, figures=look.figures)
