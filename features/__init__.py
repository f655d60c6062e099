"""What did this user do, as numbers and as true or false, as of an instant?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.behaviour.extension import feature
    from features.behaviour.feature_set import FeatureSet
    from features.behaviour.histories import Histories
    from features.behaviour.matrix import FeatureMatrix
    from features.behaviour.schema import StateSchema
    from features.events.batch import EventBatch
    from features.events.plan import Codes, TrackingPlan
    from features.project import Project

__all__ = [
    "Codes",
    "EventBatch",
    "FeatureMatrix",
    "FeatureSet",
    "Histories",
    "Project",
    "StateSchema",
    "TrackingPlan",
    "feature",
]

_HOMES = {
    "Codes": "events.plan",
    "EventBatch": "events.batch",
    "FeatureMatrix": "behaviour.matrix",
    "FeatureSet": "behaviour.feature_set",
    "Histories": "behaviour.histories",
    "Project": "project",
    "StateSchema": "behaviour.schema",
    "TrackingPlan": "events.plan",
    "feature": "behaviour.extension",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import a public name when it is first used: `import features` alone stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'features' has no attribute {name!r}")
    return getattr(import_module(f"features.{_HOMES[name]}"), name)
