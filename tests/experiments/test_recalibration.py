"""Recalibration: it mends probabilities that are off, leaves the ranking, and is judged on other users."""

import numpy as np
import pytest

from experiments.recalibration import recalibrated
from experiments.studies import PropensitySpec
from experiments.study import Study
from tests.experiments.projects import make
from training.calibration import Calibration
from training.model import Model


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A study's model, its spec and its rows."""
    project = make(tmp_path_factory.mktemp("recalibration") / "shop", n_users=900)
    study = Study.from_yaml(project, "buys_7d")
    study.spec = study.spec.model_copy(update={"search": study.spec.search.model_copy(update={"trials": 1})})
    rows = study.rows(project)
    result = study.run(project, rows=rows)
    return Model.load(result.folder), study.spec, rows


def shifted(model, by):
    """The model with every log-odds shifted, as where everybody comes to buy more often."""
    held = model.calibration
    return Model(**{**vars(model), "calibration": Calibration("platt", held.slope or 1.0, held.intercept + by)})


@pytest.mark.parametrize("by", [-2.0, 1.5])
def test_probabilities_that_are_off_are_mended_and_the_ranking_stays(learned, by):
    model, spec, rows = learned
    assert isinstance(spec, PropensitySpec)
    wrong = shifted(model, by)
    mended, fought = recalibrated(wrong, spec, rows)
    assert fought.verdict == "better"
    assert fought.difference["log_loss"].high < 0
    assert abs(fought.difference["roc_auc"].value) < 1e-12
    test = rows.split_by_time()[2]
    assert abs(mended.score(test.matrix).probability.mean() - test.y.mean()) < 0.05
    assert fought.n_rows < len(test)
    assert "recalibrated" in mended.details


def test_what_is_right_already_is_not_called_better(learned):
    model, spec, rows = learned
    once, _ = recalibrated(shifted(model, 1.0), spec, rows)
    assert recalibrated(once, spec, rows)[1].verdict != "better"


def test_one_kind_of_outcome_alone_teaches_nothing(learned):
    model, spec, rows = learned
    never = type(rows)(rows.matrix, np.zeros(len(rows)), rows.parts, rows.provenance)
    assert recalibrated(model, spec, never) is None
