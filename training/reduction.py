"""Reduction: many columns become few: principal components, or the code of a small autoencoder."""

import warnings
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from features.document import rule
from features.errors import StudyError
from training.stages import Array
from training.step import Lesson, Step, some


class Pca(Step):
    """`pca`: the directions in which the training rows vary most.

    Attributes:
        components: How many; or
        share: as many as it takes to keep this share of the variance.
    """

    step: Literal["pca"] = "pca"
    components: int | None = Field(None, ge=1)
    share: float | None = Field(None, gt=0, lt=1)

    complete: ClassVar[bool] = True

    _one_way = rule(
        lambda said: (said.components is None) == (said.share is None), "pca is {components: 5} or {share: 0.9}"
    )

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """Weights and bias of the components, `pca#0` and so on."""
        from sklearn.decomposition import PCA

        most = min(values.shape)
        if self.components is not None and self.components > most:
            raise StudyError(f"pca: {self.components} components of {most} columns or rows. Hint: fewer `components`.")
        with np.errstate(invalid="ignore"):  # no variance at all: each component keeps 0 of 0
            fitted = PCA(n_components=self.components or self.share, svd_solver="full").fit(values)
        weights = fitted.components_.T
        kept = float(np.nan_to_num(fitted.explained_variance_ratio_).sum())
        return Lesson(
            {"weights": weights, "bias": -(fitted.mean_ @ weights)},
            tuple(f"pca#{place}" for place in range(weights.shape[1])),
            told=f"{weights.shape[1]} of {len(names)} columns keep {kept:.0%} of the variance",
        )


class Autoencoder(Step):
    """`autoencoder`: the narrow middle of a small network that learned to repeat its input.

    The network is scikit-learn's MLPRegressor.

    Attributes:
        components: Width of the middle: the columns that come out, between -1 and 1.
        hidden: Width of the layers before and behind it.
        rounds: Passes over the rows at most; learning stops when held-out rows are repeated no better.
        seed: Of the first weights and of the rows held out.
    """

    step: Literal["autoencoder"] = "autoencoder"
    components: int = Field(4, ge=1, le=256)
    hidden: int = Field(32, ge=1, le=1024)
    rounds: int = Field(200, ge=1, le=5000)
    seed: int = Field(0, ge=0)

    complete: ClassVar[bool] = True
    equal: ClassVar[bool] = True

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """The two layers of the encoder; its columns are `code#0` and so on."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        rows = some(values)
        if len(rows) < 20:
            raise StudyError(f"{len(rows)} rows are too few for an autoencoder. Hint: `pca`, or a wider population.")
        network = MLPRegressor(
            hidden_layer_sizes=(self.hidden, self.components, self.hidden),
            activation="tanh",
            early_stopping=True,
            max_iter=self.rounds,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(rows, rows if rows.shape[1] > 1 else rows.ravel())
        missed = ((rows - network.predict(rows).reshape(rows.shape)) ** 2).sum()
        total = ((rows - rows.mean(axis=0)) ** 2).sum()
        repeated = 1 - missed / total if total > 0 else 1.0
        (hidden, weights, *_), (hidden_bias, bias, *_) = network.coefs_, network.intercepts_
        return Lesson(
            {"hidden": hidden, "hidden_bias": hidden_bias, "weights": weights, "bias": bias},
            tuple(f"code#{place}" for place in range(self.components)),
            told=f"{self.components} of {len(names)} columns repeat {repeated:.0%} of the variance",
        )
