"""Preparation: everything that was learned from data before a model sees it, frozen; `training.steps` fits one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np

from features.behaviour.matrix import FeatureMatrix
from features.errors import BundleError
from training.stages import CHANGES, COLUMNWISE, Array, Columns, Stage

KNOWN = CHANGES.keys() | COLUMNWISE.keys()
"""Every step there is."""


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
        for part in self._parts:
            values = part(values)
        return values

    @cached_property
    def columns(self) -> Columns | None:
        """All of it as one loop over columns; None where a stage looks at more than one value."""
        parts = self._parts
        if not parts:
            none = np.zeros((0, len(self.names)))
            return Columns(none.astype(np.int64), none, none)
        return parts[0] if len(parts) == 1 and isinstance(parts[0], Columns) else None

    @cached_property
    def _parts(self) -> list[Callable[[Array], Array]]:
        """What is done, in order: neighbouring stages that change each column by itself are one loop."""
        names, parts = self.names, list[Callable[[Array], Array]]()
        for stage in self.stages:
            columns = stage.columnwise(names)
            if columns is None:
                parts.append(partial(stage.apply, names=names))
            elif parts and isinstance(parts[-1], Columns):
                parts[-1] = parts[-1].then(columns)
            else:
                parts.append(columns)
            names = stage.after(names)
        return parts

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
        row = stage.apply(np.zeros((1, len(names))), names) if step in KNOWN else None
    except (KeyError, ValueError, IndexError, TypeError):
        row = None
    if row is None or row.shape != (1, len(stage.after(names))):
        raise BundleError(f"the preparation step {step!r} cannot be read.")
    return stage
