"""Model: one study's result as a folder of plain files; it scores with numpy and compiled loops alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.matrix import FeatureMatrix
from features.errors import BundleError
from features.instants import parse_instant
from training.assigner import Assigner, Centroids, Mixture, nearest
from training.calibration import Calibration
from training.preparation import Preparation
from training.trees import Forest

GOLDEN_TOLERANCE = 1e-12
"""Margins must agree to the bit; what passes through exp or log may differ in the last places across platforms."""


@dataclass(slots=True)
class Scores:
    """What a model says of rows.

    Attributes:
        study: The study's name.
        kind: `propensity`, `clusters`, or `classes`: a propensity that asks which of several.
        probability: Shape (n_rows,), calibrated, of a propensity.
        threshold: At or above it a row is `chosen`; NaN without a probability.
        margin: Shape (n_rows,), or (n_rows, n_classes), float32, before calibration; None for clusters.
        cluster: Shape (n_rows,), index into `names`: the cluster, or the class that is told; None for a propensity.
        distances: Shape (n_rows, n_clusters), as the model's assigner measures, of clusters.
        confidence: Shape (n_rows,), how surely that cluster or class is the right one; None for a propensity.
        probabilities: Shape (n_rows, n_classes), calibrated, of classes.
        names: Of the clusters or classes.
        ids: The clusters' ids.
        computed_at: As of when the model learned, microseconds UTC; None where it does not know.
    """

    study: str
    kind: str
    probability: NDArray[np.float64] | None = None
    threshold: float = float("nan")
    margin: NDArray[np.float32] | None = None
    cluster: NDArray[np.int64] | None = None
    distances: NDArray[np.float64] | None = None
    confidence: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float64] | None = None
    names: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    computed_at: int | None = None

    def __len__(self) -> int:
        values = self.probability if self.probability is not None else self.cluster
        return 0 if values is None else len(values)

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """Shape (n_rows,): probability at or above the threshold; all False where there is none."""
        if self.probability is None:
            return np.zeros(len(self), np.bool_)
        return self.probability >= self.threshold

    @property
    def finite(self) -> bool:
        """Whether every figure of every row is a number."""
        figures = (self.probability, self.probabilities, self.distances, self.confidence)
        return all(bool(np.isfinite(each).all()) for each in figures if each is not None)

    def row(self, index: int) -> dict[str, object]:
        """One row as plain values for an answer."""
        if self.probability is not None:
            probability = float(self.probability[index])
            return {"probability": probability, "threshold": self.threshold, "chosen": probability >= self.threshold}
        place = int(self.column()[index])
        if self.probabilities is not None:
            return {"name": self.names[place], "probability": float(self.probabilities[index, place])}
        if self.distances is None or self.confidence is None:
            raise BundleError(f"the scores of {self.study!r} hold neither a probability nor a cluster.")
        return {
            "cluster": place,
            "id": self.ids[place],
            "name": self.names[place],
            "distance": float(self.distances[index, place]),
            "confidence": float(self.confidence[index]),
        }

    def column(self) -> NDArray[np.float64] | NDArray[np.int64]:
        """The one figure that a log keeps per row: probability, or cluster or class."""
        values = self.probability if self.probability is not None else self.cluster
        if values is None:
            raise BundleError(f"the scores of {self.study!r} hold neither a probability nor a cluster.")
        return values


@dataclass(frozen=True)
class Model:
    """One study's result.

    Attributes:
        study: The study's name.
        kind: `propensity`, `classes` or `clusters`.
        features: Fingerprint of the feature set whose columns it takes.
        preparation: The columns, and what is done to them.
        head: Trees for a propensity or classes, what assigns for clusters.
        calibration: Of the trees' margins.
        threshold: Of the calibrated probability.
        costs: Of classes, what a row of the one (row) costs that is taken for the other (column); none: all the same.
        names: Of the clusters or classes.
        ids: What the clusters are called for ever: a refit gives those that are the same people the same id.
        details: What a reader wants to know: label, population, training set, search, figures. Plain values.
    """

    study: str
    kind: str
    features: str
    preparation: Preparation
    head: Forest | Assigner
    calibration: Calibration = field(default_factory=Calibration)
    threshold: float = 0.5
    costs: tuple[tuple[float, ...], ...] = ()
    names: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    @classmethod
    def load(cls, folder: Path | str, *, verify: bool = False) -> Self:
        """The model in a folder.

        Args:
            folder: Holds model.json and trees.json, centroids.json or mixture.json, perhaps more.
            verify: Recompute the golden rows as well.

        Raises:
            BundleError: a file is missing or damaged, or the golden rows come out differently here.
        """
        folder = Path(folder)
        data = read_json(folder / "model.json")
        try:
            model = cls(
                study=data["study"],
                kind=data["kind"],
                features=data["features"],
                preparation=Preparation.from_dict(data["preparation"]),
                head=_head(folder, data["kind"]),
                calibration=Calibration.from_dict(data["calibration"]),
                threshold=float(data["threshold"]),
                costs=tuple(map(tuple, data.get("costs", []))),
                names=tuple(data["names"]),
                ids=tuple(data["ids"]),
                details=data["details"],
                digest=digest_of(file_digests(folder)),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise BundleError(f"{folder.name}/model.json cannot be read: {problem!r}") from None
        model.check_shape()
        if verify:
            model.check(folder)
        return model

    def check_shape(self) -> None:
        """The parts fit together, or a BundleError."""
        wanted, given = self.head.n_features, len(self.preparation.outputs)
        if wanted != given:
            raise BundleError(f"model {self.study!r}: {given} prepared columns, its head needs {wanted}.")
        if self.kind == "classes" and not (isinstance(self.head, Forest) and len(self.head.base) == len(self.names)):
            raise BundleError(f"model {self.study!r}: {len(self.names)} classes do not fit its trees.")
        if self.costs and {len(self.costs), *map(len, self.costs)} != {len(self.names)}:
            raise BundleError(f"model {self.study!r}: its costs do not fit {len(self.names)} classes.")
        if not isinstance(self.head, Forest) and not len(self.head) == len(self.names) == len(set(self.ids)):
            said = f"{len(self.names)} names and {len(set(self.ids))} ids"
            raise BundleError(f"model {self.study!r}: {len(self.head)} clusters, {said}.")

    def save(self, folder: Path, *, trees: str = "") -> None:
        """Write model.json and the head's file into an empty folder.

        Args:
            folder: Made where it does not exist.
            trees: XGBoost's JSON model, for a propensity; it is stored as XGBoost wrote it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "model.json", self.to_dict())
        if isinstance(self.head, Forest):
            (folder / "trees.json").write_text(trees, encoding="utf-8")
        else:
            write_json(folder / self.head.FILE, self.head.to_dict())

    def to_dict(self) -> dict[str, object]:
        """What model.json holds."""
        return {
            "version": 1,
            "study": self.study,
            "kind": self.kind,
            "features": self.features,
            "preparation": self.preparation.to_dict(),
            "calibration": self.calibration.to_dict(),
            "threshold": self.threshold,
            "costs": [list(row) for row in self.costs],
            "names": list(self.names),
            "ids": list(self.ids),
            "details": dict(self.details),
        }

    def score(self, matrix: FeatureMatrix) -> Scores:
        """What the model says of every row.

        Raises:
            BundleError: the matrix comes from another feature set.
        """
        if matrix.fingerprint != self.features:
            raise BundleError(
                f"model {self.study!r} was trained on the features {self.features}, these are {matrix.fingerprint}. "
                f"Hint: `ethogram study run {self.study}`."
            )
        return self.score_values(matrix.select(self.preparation.names).values)

    def score_values(self, values: NDArray[np.float64]) -> Scores:
        """The same for bare values of shape (n_rows, n_features), columns as in `preparation.names`."""
        prepared = self.preparation.apply(values)
        if not isinstance(self.head, Forest):
            distances = self.head.distances(prepared)
            return Scores(
                self.study,
                self.kind,
                cluster=nearest(distances),
                distances=distances,
                confidence=self.head.confidence(distances),
                names=self.names,
                ids=self.ids,
                computed_at=self.computed_at,
            )
        margins = self.head.margins(prepared.astype(np.float32))
        probability = self.calibration.probability(margins)
        if probability.ndim == 1:
            return Scores(self.study, self.kind, probability, self.threshold, margins)
        told = self.told(probability)
        return Scores(
            self.study,
            self.kind,
            margin=margins,
            cluster=told,
            confidence=probability[np.arange(len(told)), told],
            probabilities=probability,
            names=self.names,
            computed_at=self.computed_at,
        )

    @cached_property
    def computed_at(self) -> int | None:
        """The newest instant as of which it learned, microseconds UTC; None where its rows have none."""
        cuts = self.details.get("training_set", {}).get("cuts", {})
        return max((parse_instant(each) for instants in cuts.values() for each in instants), default=None)

    def told(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class that is told of every row, shape (n_rows,): the most probable, or the one that costs least."""
        if not self.costs:
            return np.asarray(probabilities.argmax(axis=1))
        # Summed in the one order, so that a row alone and in a batch costs the same to the bit.
        return np.asarray((probabilities[:, :, None] * np.array(self.costs)).sum(axis=1).argmin(axis=1))

    def probabilities(self, matrix: FeatureMatrix) -> NDArray[np.float64]:
        """Shape (n_rows,), or (n_rows, n_classes): what a propensity says of every row.

        Raises:
            BundleError: these are clusters, or the matrix comes from another feature set.
        """
        scores = self.score(matrix)
        found = scores.probability if scores.probability is not None else scores.probabilities
        if found is None:
            raise BundleError(f"the model {self.study!r} gives no probabilities.")
        return found

    def write_golden(self, folder: Path, rows: NDArray[np.float64]) -> None:
        """Store made-up rows with what the model says of them, for `check`.

        Args:
            folder: The model's.
            rows: Shape (n_rows, n_features); nobody's own values.
        """
        scores = self.score_values(rows)
        golden = {"rows": [[None if np.isnan(v) else v for v in row] for row in rows.tolist()], **_figures(scores)}
        write_json(folder / "golden.json", golden)

    def check(self, folder: Path) -> None:
        """Recompute the golden rows.

        Raises:
            BundleError: a figure differs from the one that was stored at training.
        """
        golden = read_json(folder / "golden.json")
        rows = np.array([[np.nan if v is None else v for v in row] for row in golden["rows"]], np.float64)
        for name, found in _figures(self.score_values(rows)).items():
            exact = name in ("margin", "cluster")
            limit = 0.0 if exact else GOLDEN_TOLERANCE
            if not np.allclose(np.array(found), np.array(golden[name]), rtol=limit, atol=limit):
                raise BundleError(f"model {self.study!r}: the golden rows give another {name} on this machine.")


def _figures(scores: Scores) -> dict[str, Any]:
    p = scores.probability if scores.probability is not None else scores.probabilities
    if p is not None and scores.margin is not None:
        return {"margin": scores.margin.astype(np.float64).tolist(), "probability": p.tolist()}
    if scores.cluster is None or scores.distances is None:
        return {}
    return {"cluster": scores.cluster.tolist(), "distances": scores.distances.tolist()}


def _head(folder: Path, kind: str) -> Forest | Assigner:
    if kind != "clusters":
        return Forest.from_json(_bytes(folder / "trees.json"))
    if (folder / Mixture.FILE).exists():
        return Mixture.from_dict(read_json(folder / Mixture.FILE))
    return Centroids.from_dict(read_json(folder / Centroids.FILE))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise BundleError(f"{path.parent.name}/{path.name} is missing. Hint: publish the bundle again.") from None


def read_json(path: Path) -> Any:  # noqa: ANN401 - a parsed document
    """A JSON file of a model or bundle, or a BundleError."""
    try:
        return json.loads(_bytes(path))
    except ValueError:
        raise BundleError(f"{path.parent.name}/{path.name} is not JSON. Hint: publish the bundle again.") from None


def write_json(path: Path, value: object) -> None:
    """Write plain values the one way: sorted keys, one space, a newline; NaN is refused."""
    path.write_text(dump_json(value), encoding="utf-8")


def dump_json(value: object) -> str:
    """The text that `write_json` writes."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def digest_of(value: object) -> str:
    """SHA-256 over plain values."""
    return sha256(dump_json(value).encode()).hexdigest()
