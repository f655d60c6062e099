"""Steps: `preparation:` as declared, and how it is fitted. Serving never comes here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Discriminator
from pydantic_core import PydanticCustomError

from features.behaviour.matrix import FeatureMatrix
from features.document import Definition
from features.errors import StudyError, nearest
from training.encoding import Hash, OneHot
from training.imputation import Impute
from training.outliers import Cap, Iqr
from training.preparation import KNOWN, Preparation
from training.reduction import Autoencoder, Pca
from training.scaling import Log, MinMax, Power, Robust, Scale, Standardise
from training.smoothing import Smooth
from training.stages import Array, Stage
from training.step import Lesson, Step

LEAST_SHARE = 0.5
"""Of the rows, that filters must leave to fit on."""

AnyStep = Annotated[
    Impute | Cap | Iqr | Log | Power | Standardise | Robust | MinMax | Smooth | OneHot | Hash | Pca | Autoencoder,
    Discriminator("step"),
]
Written = str | Mapping[str, object] | AnyStep
"""A step as in studies.yaml: a name, or a name with options."""


def _entry(value: object) -> object:
    """`cap`, `{cap: {low: 0.01}}` or `{step: cap, low: 0.01}` as the last of them."""
    if isinstance(value, Step) or (isinstance(value, Mapping) and "step" in value):
        return value
    name, options = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else (value, None)
    if not isinstance(name, str) or not isinstance(options, Mapping | None):
        raise ValueError(f"a step is a name, or a name with options such as {{cap: {{low: 0.01}}}}. Got {value!r}.")
    if name not in KNOWN:
        text, hint = f"unknown preparation step {name!r}.", nearest(name, KNOWN)
        raise PydanticCustomError("unknown_key", "{text} {hint}", {"text": text, "hint": hint, "at": name})
    return {"step": name, **(options or {})}


def _in_order(steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
    for place, step in enumerate(steps):
        before = steps[:place]
        changing = next((each for each in before if not each.raw), None)
        if step.raw and changing is not None:
            raise ValueError(f"{step.step!r} reads features as they are: put it before {changing.step!r}")
        if step.complete and not any(isinstance(each, Impute) for each in before):
            raise ValueError(f"{step.step!r} needs every value: put 'impute' before it")
        if step.equal and not any(isinstance(each, Scale) for each in before):
            raise ValueError(f"{step.step!r} needs columns of one size: put 'standardise' before it")
    return steps


def completed(steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
    """The steps with an `impute` behind those that read features as they are, if none is declared."""
    if any(isinstance(step, Impute) for step in steps):
        return steps
    n_raw = sum(step.raw for step in steps)
    return (*steps[:n_raw], Impute(), *steps[n_raw:])


def _completed_in_order(steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
    _in_order(completed(steps))
    return steps


Entries = tuple[Annotated[AnyStep, BeforeValidator(_entry)], ...]
Steps = Annotated[Entries, AfterValidator(_in_order)]
"""`preparation:` of studies.yaml."""
CompleteSteps = Annotated[Entries, AfterValidator(_completed_in_order)]
"""The same where no value may be missing: `completed` before they are fitted."""


class Declared(Definition):
    """Steps alone, as written in Python."""

    preparation: Steps


def fit(matrix: FeatureMatrix, steps: Iterable[Written], *, names: Sequence[str] | None = None) -> Preparation:
    """Learn the steps, each on what the ones before it give.

    Args:
        matrix: Training rows only.
        steps: As in studies.yaml.
        names: Columns to keep (default: all).

    Raises:
        DefinitionError: an unknown step or option, or steps in an impossible order.
        StudyError: an unknown feature, no rows, or too few of them left by a filter.
    """
    return fit_rows(matrix, steps, names=names)[0]


def fit_rows(
    matrix: FeatureMatrix, steps: Iterable[Written], *, names: Sequence[str] | None = None
) -> tuple[Preparation, NDArray[np.bool_]]:
    """The same, with the rows that a model may be fitted on: those that every filter kept, shape (n_rows,)."""
    declared = Declared.from_dict({"preparation": list(steps)}).preparation
    chosen = now = tuple(names) if names is not None else matrix.names
    _known(chosen, matrix.names)
    if not len(matrix):
        raise StudyError("a preparation cannot be fitted on no rows.")
    values, kept = matrix.select(chosen).values, np.ones(len(matrix), np.bool_)
    stages, told = [], []
    for step in declared:
        stage, lesson = _learned(step, values[kept], now)
        if lesson.kept is not None:
            kept[kept] = lesson.kept
        values, now = stage.apply(values, now), stage.after(now)
        stages.append(stage)
        told += [f"{step.step}: {lesson.told}"] if lesson.told else []
    if kept.mean() < LEAST_SHARE:
        raise StudyError(
            f"the filters of the preparation leave {kept.mean():.0%} of the rows to fit on. "
            "Hint: name their `columns`, or take a larger `k`."
        )
    return Preparation(chosen, tuple(stages), tuple(told)), kept


def _learned(step: AnyStep, values: Array, names: tuple[str, ...]) -> tuple[Stage, Lesson]:
    columns = names if step.columns == "all" else tuple(step.columns)
    _known(columns, names)
    taken = values if columns == names else values[:, [names.index(name) for name in columns]]
    lesson = step.learn(taken, columns)
    return Stage(step.step, columns, columns if lesson.outputs is None else lesson.outputs, lesson.learned), lesson


def _known(names: tuple[str, ...], there: tuple[str, ...]) -> None:
    for name in names:
        if name not in there:
            raise StudyError(f"unknown feature {name!r}. {nearest(name, there)}")


def made(column: str) -> bool:
    """Whether a column is no feature but what a step makes: a category, a hash, a component."""
    return "=" in column or "#" in column
