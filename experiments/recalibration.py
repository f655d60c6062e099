"""Recalibration: the champion's trees, with margins read anew: tried before a study, because it changes least."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.duel import Duel, duel
from experiments.studies import PropensitySpec
from experiments.study import DIGEST, VERSION
from experiments.tracking import Registered, Tracking, scratch
from features.instants import iso
from features.people import hash_text
from features.project import Project
from training.bundle import Bundle
from training.model import Model, read_json, write_json
from training.propensity import calibrate, threshold
from training.reference import write_reference
from training.training_set import TrainingSet


def recalibrated(model: Model, spec: PropensitySpec, rows: TrainingSet) -> tuple[Model, Duel] | None:
    """The model recalibrated on half of the users of the newest cut, judged against itself on the others.

    A calibration is monotone: it mends probabilities, never a ranking.

    Args:
        model: The champion's, over the features of `rows`.
        spec: Its study's.
        rows: The newest training set; its test cut is the newest whose outcomes are known.

    Returns:
        None where the study asks which of several, or a half holds one kind of outcome only.
    """
    test = rows.split_by_time()[2]
    scores = model.score(test.matrix)
    if test.y is None or scores.margin is None or scores.probability is None:
        return None
    learns = np.array([hash_text("recalibration" + user) % 2 == 0 for user in test.matrix.users], np.bool_)
    if min(len(np.unique(test.y[half])) for half in (learns, ~learns)) < 2:
        return None
    method = "platt" if spec.calibration == "none" else spec.calibration
    calibration = calibrate(method, scores.margin[learns], test.y[learns])
    p = calibration.probability(scores.margin)
    cost = None if spec.threshold == "f1" else spec.threshold
    at = int(test.matrix.at.max())
    said = {**model.details, "recalibrated": {"at": iso(at), "n_rows": int(learns.sum())}}
    limit = threshold(test.y[learns], p[learns], cost)
    made = replace(model, calibration=calibration, threshold=limit, details=said, digest="")
    rest = (test.y[~learns], scores.probability[~learns], p[~learns], test.matrix.users[~learns])
    return made, duel(model.study, *rest, at=at)


def registered(project: Project, champion: Bundle, model: Model, rows: TrainingSet, fought: Duel) -> Registered:
    """The recalibrated model as the newest version of its study, with the newest rows as its reference."""
    tracking = Tracking(project)
    with scratch() as temporary:
        folder = Path(temporary) / "model"
        shutil.copytree(champion.path / "models" / model.study, folder)
        write_json(folder / "model.json", model.to_dict())
        golden = read_json(folder / "golden.json")["rows"]
        model.write_golden(folder, np.array([[np.nan if v is None else v for v in row] for row in golden], np.float64))
        write_reference(folder, model, rows)
        digest = Model.load(folder, verify=True).digest
        tags = {"ethogram.features": model.features, "ethogram.verdict": f"recalibrated; {fought}", DIGEST: digest}
        run = tracking.start("recalibration", search=digest[:16], tags=tags)
        with tracking.ending(run):
            tracking.log(run, params={"calibration": json.dumps(model.calibration.to_dict())})
            made = tracking.register(run, folder, tracking.name(model.study), tags=tags)
            tracking.log(run, tags={VERSION: str(made.version)})
    return made
