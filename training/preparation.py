"""Preparation: everything that was learned from data before a model sees it, frozen; `training.steps` fits one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from features.behaviour.matrix import FeatureMatrix
from features.errors import BundleError
from training.stages import CHANGES, Array, Stage


@dataclass(frozen=True)
class Preparation:
    """Fitted steps over chosen columns; plain numbers that fit in JSON.

    Attributes:
        names: The columns it takes, in order.
        stages: The fitted steps.
        told: What a reader wants to know of them, a line each.
    """

    names: tuple[str, ...]
    stages: tuple[Stage, ...] = ()
    told: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The prepared columns, in order."""
        names = self.names
        for stage in self.stages:
            names = stage.after(names)
        return names

    def transform(self, matrix: FeatureMatrix) -> Array:
        """Prepared values, shape (n_rows, len(outputs)), float64; each row depends on itself alone."""
        return self.apply(matrix.select(self.names).values)

    def apply(self, values: Array) -> Array:
        """The same on bare values whose columns are `names`."""
        for stage, names in self._before:
            values = stage.apply(values, names)
        return values

    @cached_property
    def _before(self) -> tuple[tuple[Stage, tuple[str, ...]], ...]:
        """Every stage with the columns there are before it."""
        names, before = self.names, []
        for stage in self.stages:
            before.append((stage, names))
            names = stage.after(names)
        return tuple(before)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        stages = [
            {
                "step": stage.step,
                "columns": list(stage.columns),
                "outputs": list(stage.outputs),
                "learned": {key: array.tolist() for key, array in stage.learned.items()},
            }
            for stage in self.stages
        ]
        return {"names": list(self.names), "steps": stages, "told": list(self.told)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The preparation that `to_dict` described.

        Raises:
            BundleError: it names a step that does not exist, or its numbers do not fit its columns.
        """
        names = now = tuple(data["names"])
        stages: list[Stage] = []
        for each in data["steps"]:
            stages.append(_stage(each, now))
            now = stages[-1].after(now)
        return cls(names, tuple(stages), tuple(data["told"]))


def _stage(data: Mapping[str, Any], names: tuple[str, ...]) -> Stage:
    """A stage whose numbers give what it says on a row of nothing but zeros."""
    step = str(data.get("step"))
    try:
        learned = {key: np.array(value, np.float64) for key, value in data["learned"].items()}
        stage = Stage(step, tuple(data["columns"]), tuple(data["outputs"]), learned)
        row = stage.apply(np.zeros((1, len(names))), names) if step in CHANGES else None
    except (KeyError, ValueError, IndexError, TypeError):
        row = None
    if row is None or row.shape != (1, len(stage.after(names))):
        raise BundleError(f"the preparation step {step!r} cannot be read.")
    return stage
