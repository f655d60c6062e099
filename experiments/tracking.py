"""Tracking: MLflow, and nothing else, behind plain functions: runs, pictures, models and the registry."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.plain import Plain
from features.errors import BundleError
from features.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from training.model import Model

PARENT = "mlflow.parentRunId"
SEARCH = "ethogram.search"
NUMBER, PART = "ethogram.trial", "ethogram.part"
REQUIREMENTS = ("numpy", "numba", "polars", "pydantic", "ruamel.yaml", "xxhash")
"""What scoring needs; named, so that MLflow infers nothing by importing."""

LOADER = "experiments.tracking"
CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    name: str
    version: int
    tags: Mapping[str, str]
    source: str


@dataclass(frozen=True)
class Run(Plain):
    """What MLflow keeps of a run.

    Attributes:
        id: Its own.
        started: Microseconds UTC.
        tags: Tags.
        params: Parameters, as texts.
        metrics: Figures.
    """

    INSTANTS = ("started",)

    id: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def _run(found: Any) -> Run:  # noqa: ANN401 - MLflow ships no types
    data, info = found.data, found.info
    return Run(str(info.run_id), int(info.start_time) * 1000, dict(data.tags), dict(data.params), dict(data.metrics))


def _registered(found: Any) -> Registered:  # noqa: ANN401 - MLflow ships no types
    return Registered(found.name, int(found.version), dict(found.tags), str(found.source))


def quiet() -> None:
    """Switch off telemetry and progress bars; call before the first import of MLflow."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def address(project: Project) -> str:
    """MLflow's address.

    `mlflow run` sets MLFLOW_TRACKING_URI for the process it starts, to its own default where nobody chose one: a file
    in the working folder. A project's runs belong into the project, so such a local address does not count there.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if "MLFLOW_RUN_ID" in os.environ and not given.startswith(("http", "postgresql", "mysql", "databricks")):
        setting = project.settings.mlflow
        return setting if "://" in setting else f"sqlite:///{project.root / setting}"
    return project.tracking_uri


class Tracking:
    """A project's runs and models."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.uri = address(project)
        self.registry = os.environ.get("MLFLOW_REGISTRY_URI") or self.uri

    @cached_property
    def client(self) -> Any:  # noqa: ANN401 - MLflow ships no types
        """MLflow's client; a new SQLite file gets its tables on first use."""
        quiet()
        import logging

        from mlflow import MlflowClient

        for name in ("mlflow", "mlflow.store.db.utils", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.registry)

    @property
    def _nothing_yet(self) -> bool:
        # Reading must not make a database: that takes MLflow some seconds, and leaves a file behind.
        path = self.registry.removeprefix("sqlite:///")
        return path != self.registry and not Path(path).exists()

    def name(self, study: str) -> str:
        """A study's name in MLflow."""
        return f"{self.project.name}.{study}"

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        folder = (self.project.root / ".ethogram" / "artifacts" / name).resolve()
        local = self.uri.startswith("sqlite:///")
        return str(self.client.create_experiment(name, artifact_location=folder.as_uri() if local else None))

    def start(self, study: str, *, search: str, tags: Mapping[str, str]) -> str:
        """A parent run; the one that a killed process left, if it asked the same question.

        Args:
            study: The study's name.
            search: Fingerprint of the question: data, features, space, seed.
            tags: Fingerprints and the like.
        """
        left = self.left(study, search)
        if left is not None:
            return left
        experiment = self._experiment(self.name(study))
        run = self.client.create_run(experiment, run_name=study, tags={SEARCH: search, **tags})
        return str(run.info.run_id)

    def left(self, study: str, search: str) -> str | None:
        """The run that a killed process left of this question."""
        query = f"tags.`{SEARCH}` = '{search}' and attributes.status = 'RUNNING'"
        left = self.client.search_runs([self._experiment(self.name(study))], query, max_results=1)
        return str(left[0].info.run_id) if left else None

    def runs(self, study: str) -> list[Run]:
        """The finished runs of a study, the newest first."""
        if self._nothing_yet:
            return []
        found = self.client.search_runs([self._experiment(self.name(study))], "attributes.status = 'FINISHED'")
        return [_run(each) for each in found if PARENT not in each.data.tags]

    def run(self, run: str) -> Run | None:
        """A run by its id."""
        from mlflow.exceptions import MlflowException

        try:
            return None if self._nothing_yet else _run(self.client.get_run(run))
        except MlflowException:
            return None

    def trials(self, run: str) -> list[Run]:
        """The trials below a run, in their order."""
        experiment = self.client.get_run(run).info.experiment_id
        found = self.client.search_runs([experiment], f"tags.`{PARENT}` = '{run}'", max_results=10_000)
        trials = [_run(each) for each in found if NUMBER in each.data.tags]
        return sorted(trials, key=lambda each: (int(each.tags.get(PART, 0)), int(each.tags[NUMBER])))

    def file(self, run: str, place: str, folder: Path) -> Path | None:
        """One file of a run, below `folder`; None where it is not there."""
        from mlflow.exceptions import MlflowException

        try:
            with _quietly():
                return Path(self.client.download_artifacts(run, place, str(folder)))
        except (MlflowException, OSError):
            return None

    def child(
        self,
        run: str,
        number: int,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        state: str,
        part: int = 0,
    ) -> None:
        """One trial as a run of its own below the parent: three writes, no artefact."""
        experiment = self.client.get_run(run).info.experiment_id
        tags = {PARENT: run, NUMBER: str(number), PART: str(part), "ethogram.state": state}
        made = self.client.create_run(experiment, run_name=f"trial {number}", tags=tags).info.run_id
        self.log(made, params=params, metrics=metrics)
        self.client.set_terminated(made, "FINISHED" if state == "complete" else "KILLED")

    def log(
        self,
        run: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Parameters, metrics and tags in one write."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self.client.log_batch(
            run,
            metrics=[Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()],
            params=[Param(name, str(value)[:6000]) for name, value in (params or {}).items()],
            tags=[RunTag(name, str(value)[:8000]) for name, value in (tags or {}).items()],
        )

    def files(self, run: str, folder: Path, place: str) -> None:
        """Every file of a folder as artefacts."""
        self.client.log_artifacts(run, str(folder), place)

    @contextmanager
    def ending(self, run: str) -> Iterator[None]:
        """The run ends with this block: as finished, or as failed where the block does."""
        try:
            yield
        except Exception:
            self.client.set_terminated(run, "FAILED")
            raise
        self.client.set_terminated(run, "FINISHED")

    def register(self, run: str, folder: Path, name: str, *, tags: Mapping[str, str]) -> Registered:
        """A folder of plain files as the run's model, and as a new version in the registry.

        MLflow stores the files as they are and the name of this module, which reads them: no pickle, no code.
        """
        import mlflow

        with self._default(), _quietly(), mlflow.start_run(run_id=run):
            info = mlflow.pyfunc.log_model(
                name="model",
                loader_module=LOADER,
                data_path=str(folder),
                pip_requirements=list(REQUIREMENTS),
                registered_model_name=name,
            )
        version = int(info.registered_model_version)
        self.tag(name, version, tags)
        return Registered(name, version, dict(tags), str(info.model_uri))

    def tag(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Tags of a registered version."""
        for key, value in tags.items():
            self.client.set_model_version_tag(name, str(version), key, value)

    @contextmanager
    def _default(self) -> Iterator[None]:
        """MLflow's own default is this project's address within the block.

        MLflow keeps its default in the environment as well: without care it would outlive the block and lead the next
        project astray.
        """
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)

    def versions(self, name: str) -> list[Registered]:
        """All versions of a registered model, the newest first."""
        if self._nothing_yet:
            return []
        found = self.client.search_model_versions(f"name = '{name}'", max_results=1000)
        return sorted(map(_registered, found), key=lambda each: -each.version)

    def fetch(self, registered: Registered, folder: Path) -> Path:
        """The files of a version, as they were registered, below `folder`.

        Raises:
            BundleError: the artefacts are gone.
        """
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        uri = f"models:/{registered.name}/{registered.version}"
        try:
            with self._default(), _quietly():  # the arguments that name another registry are ignored for `models:/`
                found = Path(download_artifacts(uri, dst_path=str(folder)))
        except (MlflowException, OSError) as problem:
            raise BundleError(
                f"{uri} cannot be read: {str(problem).splitlines()[0]} Hint: run the study again."
            ) from None
        inner = [path for path in (found / "data").iterdir() if path.is_dir()] if (found / "data").is_dir() else []
        if len(inner) != 1:
            raise BundleError(f"{uri} holds no model of ours. Hint: run the study again.")
        return inner[0]

    def model(self, registered: Registered) -> "Model":
        """The model of a version.

        Raises:
            BundleError: the artefacts are gone.
        """
        from training.model import Model

        with scratch() as temporary:
            return Model.load(self.fetch(registered, Path(temporary)))

    def alias(self, name: str, alias: str) -> Registered | None:
        """The version behind an alias, or None."""
        if self._nothing_yet:
            return None
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version_by_alias(name, alias)
        except MlflowException as problem:
            if problem.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise  # a registry that is away says nothing about its aliases
            return None
        return _registered(found)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias at a version."""
        self.client.set_registered_model_alias(name, alias, str(version))

    def drop_alias(self, name: str, alias: str) -> None:
        """The alias names nothing any more."""
        self.client.delete_registered_model_alias(name, alias)


@contextmanager
def _quietly() -> Iterator[None]:
    """MLflow says on standard output and error what the result says as well: only its errors pass."""
    held = StringIO()
    with redirect_stdout(held), redirect_stderr(held):
        yield


class _Served:
    """What `mlflow.pyfunc.load_model` hands out for a study's model: a frame of features in, scores out."""

    def __init__(self, folder: Path) -> None:
        from training.model import Model

        self.model = Model.load(folder, verify=True)

    def predict(self, frame: "pd.DataFrame", params: Mapping[str, object] | None = None) -> "pd.DataFrame":
        """The score of every row; columns are features by name."""
        import pandas as pd

        scores = self.model.score_values(frame[list(self.model.preparation.names)].to_numpy(dtype=float))
        if scores.cluster is None:
            return pd.DataFrame({"probability": scores.probability, "chosen": scores.chosen})
        names = [scores.names[each] for each in scores.cluster]
        if scores.probabilities is not None:
            return pd.DataFrame({"name": names, **dict(zip(scores.names, scores.probabilities.T, strict=True))})
        return pd.DataFrame({"cluster": scores.cluster, "name": names, "confidence": scores.confidence})


def _load_pyfunc(path: str) -> object:
    """MLflow calls this by its name: the model, or the bundle, in a folder."""
    folder = Path(path)
    if (folder / "bundle.json").exists():
        from training.bundle import Bundle

        return Bundle.load(folder, verify=True)
    return _Served(folder)


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A folder for files on their way into MLflow."""
    return tempfile.TemporaryDirectory(prefix="ethogram-")
