"""Asked: what answers a label that asks more than events: the newest clusters of a study, or a declared segment."""

from experiments.tracking import Tracking
from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError, StudyError
from features.events.log import EventLog
from features.project import Project
from features.segments.nodes import Node, below
from features.segments.segment_set import Segment, SegmentSet
from training.label import InCluster, Label
from training.outcome import Membership, Source, Truth

TELLS = ("feature", "count", "bucket")
"""What a segment may be handed beside events: all else is known only at a call, or to a model."""


def asked(project: Project, label: Label | None) -> Source | None:
    """What answers the label; None where events alone do.

    Raises:
        StudyError: there is no such model or segment, or nobody can say now what a request would have been told then.
    """
    if label is None or label.after is None:
        return None
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    if label.in_cluster is not None:
        return _clusters(project, features, label.in_cluster)
    return _segment(project, log, features, str(label.in_segment))


def _clusters(project: Project, features: FeatureSet, wanted: InCluster) -> Membership:
    """The newest model of the study."""
    study, tracking = wanted.study, Tracking(project)
    versions = tracking.versions(tracking.name(study))
    if not versions:
        raise StudyError(f"the study {study!r} has no model yet. Hint: `ethogram study run {study}`.")
    model = tracking.model(versions[0])
    if model.kind != "clusters" or model.features != features.fingerprint:
        what = "no clusters" if model.kind != "clusters" else "other features than the project declares"
        raise StudyError(f"the newest model of {study!r} has {what}. Hint: `ethogram study run {study}`.")
    return Membership(features, model, wanted.places(model), versions[0].version)


def _segment(project: Project, log: EventLog, features: FeatureSet, name: str) -> Truth:
    try:
        segments = SegmentSet.of(project, log.plan, log.codes, features)
        if segments is None:
            raise StudyError("the project has no segments.yaml, and the label asks one of its segments.")
        segment = segments.segment(name)
    except DefinitionError as problem:
        raise StudyError(str(problem)) from None
    if segment.membership is not None:
        raise StudyError(
            f"the segment {name!r} says how one stays and comes back (`membership`); a label asks what is true at one "
            "instant. Hint: a segment with the same `when` and no `membership`."
        )
    more = _asks_more(segments, segment)
    if more is not None:
        raise StudyError(
            f"the segment {name!r} asks more than events and features ({more.says or more.op}), of which it is not "
            "known what was said long ago. Hint: ask a segment without it."
        )
    return Truth(features, segments, name)


def only_events(segments: SegmentSet, segment: Segment) -> bool:
    """Whether events alone say at any instant who is in it."""
    return segment.membership is None and _asks_more(segments, segment) is None


def _asks_more(segments: SegmentSet, segment: Segment) -> Node | None:
    nodes = below(segments.nodes, segment.root)
    return next(
        (each for each in nodes if each.cut is not None or (each.input and each.input.source not in TELLS)), None
    )
