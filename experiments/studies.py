"""studies.yaml: what is predicted or clustered, of whom, as of when, and how hard to try."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from experiments.tables import Split
from features.document import Definition, Duration, duration, load, located, rule, validated
from features.errors import DefinitionError, StudyError, nearest
from features.events.plan import TrackingPlan
from features.instants import DAY
from training.cuts import CutsSpec
from training.label import Condition, Label
from training.propensity import Cost, Method
from training.scaling import Log, Standardise
from training.steps import CompleteSteps, Steps, made
from training.validation import TITLES, Estimate, Figures

OF_DENSITY = ("dbscan", "hdbscan")
"""Algorithms that find out how many clusters there are."""
KINDS = ("propensity", "clusters", "table")
SEGMENTS = "segments.yaml"
Fault = tuple[tuple[Any, ...], str]
"""Where, and what."""
NAME = r"^[a-z][a-z0-9_]{0,62}$"


def _lag(value: object, info: ValidationInfo) -> object:
    return 0 if value in (0, "0s") else duration(value, info)


Lag = Annotated[int, BeforeValidator(_lag)]
"""A duration that may be `0s`."""


class SearchSpec(Definition):
    """How hard to try."""

    trials: int = Field(25, ge=1, le=10_000)
    seed: int = Field(7, ge=0)
    timeout: Duration | None = None
    space: dict[str, tuple[float, float]] = {}


class Gates(Definition):
    """What a propensity must show on its test cut before it is promoted.

    `roc_auc` and `average_precision` are the least that the low end of the interval may be, `brier`, `log_loss` and
    `calibration_error` the most that the value may be; `beats` names baselines that it must beat in ROC-AUC by more
    than the interval of the difference.
    """

    roc_auc: float = Field(0.5, ge=0, le=1)
    average_precision: float | None = Field(None, ge=0, le=1)
    brier: float | None = Field(None, ge=0, le=1)
    log_loss: float | None = Field(None, ge=0)
    calibration_error: float | None = Field(None, ge=0, le=1)
    beats: tuple[Literal["logistic regression", "random forest", "rule"], ...] = ()

    def failed(self, figures: Figures, differences: Mapping[str, Mapping[str, Estimate]]) -> Iterator[str]:
        """Why a model must not be promoted."""
        for name, least in (("roc_auc", self.roc_auc), ("average_precision", self.average_precision)):
            if least is not None and not figures[name].low > least:
                yield f"{TITLES[name]} {figures[name]} does not stand above {least:g}"
        for name in ("brier", "log_loss", "calibration_error"):
            most = getattr(self, name)
            if most is not None and not figures[name].value <= most:
                yield f"{TITLES[name]} {figures[name]} is more than {most:g}"
        for other, gap in differences.items():
            if other.startswith(self.beats) and not gap["roc_auc"].low > 0:
                yield f"it does not beat the {other}: {gap['roc_auc']} ROC-AUC"


class StudySpec(Definition):
    """What every study says."""

    features: Literal["all"] | tuple[str, ...] = "all"
    preparation: Steps = ()
    search: SearchSpec = SearchSpec()


class LogSpec(StudySpec):
    """What a study of the log says."""

    population: Condition = Condition(did="any")
    blind_spot: Lag = 0


class Stable(Definition):
    """`select:` columns that trees grown on half of the users ask about again and again."""

    share: float = Field(0.6, gt=0, le=1)
    halves: int = Field(10, ge=2, le=100)


class PredictsSpec(StudySpec):
    """What every study says that predicts."""

    calibration: Method = "platt"
    threshold: Literal["f1"] | Cost = "f1"
    costs: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = {}
    balanced: bool = False
    monotone: dict[str, Literal["rises", "falls"]] = {}
    select: Stable | None = None
    trusted: tuple[str, ...] = ()
    known_later: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    seeds: int = Field(1, ge=1, le=100)
    gates: Gates = Gates()

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        given = self.features if self.features != "all" else ()
        for name in (*self.known_later, *self.sensitive):
            if name in given:
                raise ValueError(f"{name!r} is learned from (`features`), and must not be (`known_later`, `sensitive`)")
        return self


class PropensitySpec(PredictsSpec, LogSpec):
    """`kind: propensity`: who will?"""

    kind: Literal["propensity"] = "propensity"
    predicts: Label
    cuts: CutsSpec

    _asks_yes_or_no = rule(
        lambda said: said.predicts.plain,
        "a propensity asks yes or no, or which. Hint: add `above: AMOUNT`, `top_share: 0.1` or "
        "`bands: [AMOUNT, AMOUNT]` to `predicts`.",
    )


class Business(Definition):
    """What clusters are worth: who `did` an event `within` the time after, the sum of a `value`, and who came back."""

    did: str
    value: str | None = None
    within: Duration


class TableSpec(PredictsSpec):
    """`kind: table`: the same of a file's rows."""

    kind: Literal["table"] = "table"
    file: str
    label: str = Field(min_length=1)
    positive: str | None = None
    leave_out: tuple[str, ...] = ()
    split: Split = Split()
    copies_allowed: bool = False
    calibration: Method = "none"


class ClustersSpec(LogSpec):
    """`kind: clusters`: which kinds of users are there?"""

    kind: Literal["clusters"] = "clusters"
    algorithm: Literal["kmeans", "ward", "dbscan", "hdbscan", "gaussian", "markov"] = "kmeans"
    k: tuple[int, int] = (2, 8)
    preparation: CompleteSteps = (Log(), Standardise())
    cuts: CutsSpec = CutsSpec(every=7 * DAY, last=1)
    smallest_share: float = Field(0.02, ge=0, lt=0.5)
    most_noise: float = Field(0.3, ge=0, lt=1)
    business: Business | None = None
    names: tuple[str, ...] | None = None
    file: str | None = None
    label: str | None = None
    leave_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        of_log, of_file = ("population", "blind_spot", "cuts", "business"), ("label", "leave_out")
        for name in of_log if self.file is not None else of_file:
            if getattr(self, name) != type(self).model_fields[name].default:  # a record says what is not said as well
                raise ValueError(f"{name!r} is of the {'log' if self.file is not None else 'rows of a `file`'}")
        if not 2 <= self.k[0] <= self.k[1] <= 100:
            raise ValueError(f"k is [least, most] between 2 and 100. Got {list(self.k)}.")
        if self.cuts.on is not None:
            raise ValueError("clusters are sought among persons at a cut: `on` is for a propensity")
        if self.algorithm == "markov" and "preparation" in self.model_fields_set:
            raise ValueError("a mixture of Markov chains counts moves as they are: it takes no `preparation`")
        if self.names is not None and (len(set(self.names)) != len(self.names) or self.k[0] != self.k[1]):
            raise ValueError("`names` are different from each other and need one k, such as [4, 4]")
        return self

    @property
    def steps(self) -> CompleteSteps:
        """What is done to the features."""
        return () if self.algorithm == "markov" else self.preparation


def _known_kind(value: object) -> object:
    if isinstance(value, Mapping) and value.get("kind") not in KINDS:
        kind = value.get("kind")
        text = "the key 'kind' is missing." if kind is None else f"unknown kind {kind!r}."
        hint = nearest(str(kind), KINDS)
        raise PydanticCustomError("unknown_key", "{text} {hint}", {"text": text, "hint": hint, "at": "kind"})
    return value


Spec = PropensitySpec | ClustersSpec | TableSpec
OfLog = PropensitySpec | ClustersSpec
AnySpec = Annotated[Annotated[Spec, Discriminator("kind")], BeforeValidator(_known_kind)]
StudyName = Annotated[str, Field(pattern=NAME)]


class StudiesFile(Definition):
    """`studies.yaml`."""

    version: Literal[1] = 1
    studies: dict[StudyName, AnySpec] = Field(min_length=1)


def read(path: Path, plan: TrackingPlan, features: tuple[str, ...]) -> dict[str, Spec]:
    """The studies of a file; events, properties and features that nobody declared are errors with their line.

    Raises:
        DefinitionError: the file is absent or says what it cannot.
    """
    document = load(path)
    studies = validated(StudiesFile, document, where=path.name).studies
    faults = [
        located(document, ("studies", name, *where), path.name) + fault
        for name, spec in studies.items()
        for where, fault in (*unknowns(spec, plan, features), *_unknown_study(spec, studies), *_segment(spec, path))
    ]
    if faults:
        raise DefinitionError("\n".join(faults))
    return studies


def one(data: Mapping[str, object]) -> tuple[str, Spec]:
    """A study written in Python: the mapping of studies.yaml with its `name`."""
    rest = {key: value for key, value in data.items() if key != "name"}
    name = str(data.get("name", "study"))
    return name, validated(StudiesFile, {"studies": {name: rest}}, where="study").studies[name]


def named(studies: Mapping[str, Spec], name: str) -> Spec:
    """One of the studies, or a StudyError with the nearest name."""
    if name not in studies:
        raise StudyError(f"unknown study {name!r}. {nearest(name, studies)}")
    return studies[name]


def of_log(name: str, spec: Spec) -> OfLog:
    """The study, or a StudyError where it is one of a file."""
    if isinstance(spec, TableSpec) or file_of(spec) is not None:
        raise StudyError(f"the study {name!r} is of the file {file_of(spec)}, not of the log.")
    return spec


def file_of(spec: Spec) -> str | None:
    """The file whose rows a study is of; None where they are the log's."""
    return None if isinstance(spec, PropensitySpec) else spec.file


def of_logs(studies: Mapping[str, Spec]) -> dict[str, OfLog]:
    """Those that ask the log: what a bundle, and so a request, can hold."""
    return {name: spec for name, spec in studies.items() if not isinstance(spec, TableSpec) and file_of(spec) is None}


def answers(spec: Spec) -> str:
    """The kind of its model: `propensity`, `clusters`, or `classes` where it asks which of several."""
    return "classes" if isinstance(spec, PropensitySpec) and spec.predicts.asks_which else spec.kind


def question(spec: Spec) -> str:
    """What it asks, in words."""
    if isinstance(spec, TableSpec):
        return f"{spec.label} of {spec.file}"
    asked = str(spec.predicts) if isinstance(spec, PropensitySpec) else f"k in {list(spec.k)}"
    return f"{asked}, of {file_of(spec) or f'who {spec.population}'}"


def unknowns(spec: Spec, plan: TrackingPlan, features: tuple[str, ...]) -> Iterator[Fault]:
    """(place, fault) of every event, property and feature that nobody declared; a table's columns are its own."""
    if isinstance(spec, TableSpec) or file_of(spec) is not None:
        return
    yield from _unknown_features(spec, features)
    where, asked = ("predicts", spec.predicts) if isinstance(spec, PropensitySpec) else ("business", spec.business)
    events = {("population", "did"): spec.population.did, ("cuts", "on"): spec.cuts.on}
    events |= {(where, kind): getattr(asked, kind, None) for kind in ("did", "did_not")}
    for place, event in events.items():
        if event is not None:
            yield from _unknown("event", event, place, ("any", *plan.specs))
    if asked is not None and asked.value is not None:
        yield from _unknown_property(asked.value, (where, "value"), plan)


def _unknown(what: str, name: str, place: tuple[Any, ...], known: Collection[str]) -> Iterator[Fault]:
    if name not in known:
        yield place, f"unknown {what} {name!r}. {nearest(name, known)}"


def _unknown_features(spec: OfLog, features: tuple[str, ...]) -> Iterator[Fault]:
    for key in ("features", "trusted", "known_later", "sensitive", "monotone"):
        said = getattr(spec, key, ())
        for place, name in enumerate(() if said == "all" else said):
            if not (key == "monotone" and made(name)):
                yield from _unknown("feature", name, (key, name if key == "monotone" else place), features)
    there = features if spec.features == "all" else spec.features
    for place, step in enumerate(spec.preparation):
        for index, name in enumerate(() if step.columns == "all" else step.columns):
            if not made(name):
                yield from _unknown("feature", name, ("preparation", place, step.step, "columns", index), there)


def _unknown_study(spec: Spec, studies: Mapping[str, Spec]) -> Iterator[Fault]:
    """A label may ask studies of clusters."""
    clusters = [name for name, each in studies.items() if isinstance(each, ClustersSpec) and each.file is None]
    if isinstance(spec, PropensitySpec) and spec.predicts.in_cluster is not None:
        place = ("predicts", "in_cluster", "study")
        yield from _unknown("study of clusters", spec.predicts.in_cluster.study, place, clusters)


def _segment(spec: Spec, path: Path) -> Iterator[Fault]:
    """A label may ask a segment that is declared beside the studies."""
    if not isinstance(spec, PropensitySpec) or spec.predicts.in_segment is None:
        return
    file, place = path.with_name(SEGMENTS), ("predicts", "in_segment")
    if file.exists():
        yield from _unknown("segment", spec.predicts.in_segment, place, load(file).get("segments", {}))
    else:
        yield place, "there is no segments.yaml beside this file"


def _unknown_property(name: str, place: tuple[Any, ...], plan: TrackingPlan) -> Iterator[Fault]:
    event, _, prop = name.partition(".")
    if event != "any" and event not in plan.specs:
        yield from _unknown("event", event, place, ("any", *plan.specs))
        return
    known = plan.properties if event == "any" else plan.specs[event].properties
    if prop not in known:
        yield place, f"unknown property {prop!r} of {event!r}. {nearest(prop, known)}"
