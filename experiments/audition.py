"""Audition: an A/B test of champion and challenger that the loop writes into ab.yaml, and reads when it is over."""

from collections.abc import Mapping

from experiments.amendment import declared
from experiments.decision import Decision
from experiments.exposed import Exposed
from experiments.policy import Ab
from features.document import dumped, load
from features.errors import AnalysisError
from features.files import rewrite
from features.instants import format_duration, iso
from features.project import Project
from serving.abtests import Metric

CHAMPION, CHALLENGER = "champion", "challenger"
DURATIONS = ("within", "after", "time_on_site")


def audition(project: Project, asked: Ab, version: int, *, now: int) -> Decision | None:
    """What people say of a challenger; None while the test lasts, or its outcomes are not complete.

    The test is started where there is none. It is analyzed once: whoever looks again and again finds what is not there.

    Args:
        project: Its ab.yaml is amended; a service that follows it shows the arms a second later.
        asked: How long, to how many, and by which metrics.
        version: Of the challenger's bundle.
        now: The log's newest event.
    """
    name = _name(version)
    tests = declared(project).tests if project.path("ab").exists() else {}
    if name not in tests:
        _write(project, name, _test(asked, now))
        return None
    if now < tests[name].stop + max(metric.after + (metric.within or 0) for metric in asked.metrics.values()):
        return None
    try:
        return Exposed.of(project, name).analyze().decision
    except AnalysisError as problem:
        return Decision("not enough data", None, (str(problem),))


def end(project: Project, version: int) -> None:
    """Everybody sees the champion: the test of this challenger is killed, where there is one."""
    file = project.path("ab")
    if file.exists() and _name(version) in (tests := load(file).get("tests") or {}):
        _write(project, _name(version), {**tests[_name(version)], "killed": True})


def _name(version: int) -> str:
    return f"challenger_{version}"


def _test(asked: Ab, now: int) -> dict[str, object]:
    return {
        "control": CHAMPION,
        "arms": {each: {"model": each} for each in (CHAMPION, CHALLENGER)},
        "share": asked.share,
        "start": iso(now),
        "stop": iso(now + asked.lasts),
        "metrics": {name: _said(metric) for name, metric in asked.metrics.items()},
    }


def _said(metric: Metric) -> dict[str, object]:
    held = metric.model_dump(mode="json", exclude_defaults=True)
    return {key: format_duration(value) if key in DURATIONS else value for key, value in held.items()}


def _write(project: Project, name: str, test: Mapping[str, object]) -> None:
    file = project.path("ab")
    document = load(file) if file.exists() else {}
    document.setdefault("tests", {})[name] = dict(test)
    rewrite(file, dumped(document))
