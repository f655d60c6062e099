"""Worth: what the members of each cluster did in the time after: who converted, for how much, who came back."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments.fitting import Fitted
from experiments.inference import Summary, Z
from experiments.studies import Business
from features.behaviour.feature_set import FeatureSet
from features.errors import StudyError
from features.events.log import EventLog
from features.instants import format_duration, iso
from training.cuts import Cuts
from training.label import UNBOUNDED
from training.training_set import TrainingSet

Array = NDArray[np.float64]


def added(
    fitted: Fitted, asked: Business, log: EventLog, until: int, zone: str, built: Callable[[Cuts], TrainingSet]
) -> Fitted:
    """The same with business figures of its clusters, as far as the log says so; the model does not hold them.

    Args:
        fitted: Clusters.
        asked: What counts, and for how long.
        log: The event log.
        until: The instant at which that time ends, microseconds UTC.
        zone: The project's.
        built: Gives the rows of everybody at a cut: the members are those whom the model places there as of then.
    """
    then, model = until - asked.within, fitted.model
    try:
        rows = built(Cuts((then,), (), ()))
    except StudyError as why:
        return replace(fitted, lines=(*fitted.lines, f"no business figures as of {iso(then)}: {why}"))
    places, figures = model.score(rows.matrix).column(), _after(asked, log, rows.matrix.users, until, zone)
    told = [f"in the {format_duration(asked.within)} after {iso(then)}, of who was in a cluster then:"]
    metrics: dict[str, float] = {}
    for place, (id_, name) in enumerate(zip(model.ids, model.names, strict=True)):
        found = {what: Summary.of(values[places == place]) for what, values in figures.items()}
        metrics |= {f"cluster_{id_}_{what}": each.mean for what, each in found.items() if each.n}
        told.append(f"  id {id_}  {(places == place).sum():,} users  {'  '.join(_said(found))}  {name}")
    everybody = {what: Summary.of(values) for what, values in figures.items()}
    told.append(f"  all   {len(places):,} users  {'  '.join(_said(everybody))}")
    return replace(fitted, lines=(*fitted.lines, *told), metrics={**fitted.metrics, **metrics})


def _said(found: dict[str, Summary]) -> Iterator[str]:
    for what, each in found.items():
        figure = ("{:,.2f} ± {:,.2f}" if what == "value" else "{:.1%} ± {:.1%}").format(each.mean, Z * each.error)
        yield f"{what.replace('_', ' ')} {figure if each.n else '-'}"


def _after(asked: Business, log: EventLog, users: NDArray[np.object_], until: int, zone: str) -> dict[str, Array]:
    """Per figure one number a user."""
    windows = [format_duration(asked.within)]
    what: list[dict[str, object]] = [{"count": list(dict.fromkeys(("any", asked.did))), "windows": windows}]
    what += [{"sum": asked.value, "windows": windows}] if asked.value else []
    features = FeatureSet.from_dict(
        {"version": 1, "features": what}, log.plan, log.codes, horizon=asked.within, bound=UNBOUNDED, zone=zone
    )
    found, places = np.zeros((len(users), len(features.names))), {user: row for row, user in enumerate(users.tolist())}
    for histories in log.histories_by_bucket(features.schema):
        mine = np.array([row for row, user in enumerate(histories.users) if user in places], np.int64)
        matrix = features.compute(histories.take(mine), until)
        found[[places[user] for user in matrix.users]] = matrix.values
    converted, back = found[:, features.names.index(f"count_{asked.did}_{windows[0]}")], found[:, 0]
    figures = {"converted": (converted > 0).astype(np.float64), "came_back": (back > 0).astype(np.float64)}
    return figures | ({"value": np.nan_to_num(found[:, -1])} if asked.value else {})
