"""Thresholds: frozen before the seeds of the proofs were first run; who moves one runs the proofs anew."""

from experiments import drift, outcomes, persistence, shift, watch
from features.instants import DAY


def test_the_thresholds_are_those_that_the_proofs_were_run_with() -> None:
    assert (drift.FALSE_ALARMS, drift.FEWEST_USERS, drift.GONE) == (0.01, 100, 0.99)
    assert (shift.DISTANCE, shift.SHARE, shift.COHEN_H, shift.SPIKE, shift.LEAST) == (0.05, 0.03, 0.15, 0.5, 0.05)
    assert (shift.CORRELATION, shift.EXCESS, shift.SPREAD, shift.NULLS) == (0.2, 0.05, 0.9, 3)
    assert (shift.ROUNDS, shift.DEPTH, shift.RATE, shift.CLASSIFIER_ROWS) == (25, 3, 0.2, 1_000)
    assert outcomes.FLOORS == {"roc_auc": 0.02, "brier": 0.01, "bias": 0.02}
    assert (persistence.WINDOWS, persistence.NEEDED, persistence.WEEK, watch.DOUBLED) == (3, 2, 7 * DAY, 1.0)
