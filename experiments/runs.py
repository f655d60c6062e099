"""Runs: what was recorded of a study's runs: compared with each other, and done again from the record alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments import pages, studies
from experiments.declared import Declared
from experiments.duel import Duel, between
from experiments.plain import Plain
from experiments.search import Directions, Found, Tried
from experiments.study import DATA, DIGEST, RECORD, VERSION, Progress, Study, store
from experiments.tracking import NUMBER, PART, Run, Tracking, scratch
from features.errors import StudyError
from features.instants import iso
from features.project import Project
from training.anchors import Anchors
from training.cuts import Cuts
from training.model import Model
from training.training_set import TrainingSet

SHOWN = 10
"""Runs that a comparison shows where none is named."""
FIGURES = {
    "test_roc_auc": "ROC-AUC",
    "test_average_precision": "average precision",
    "test_brier": "Brier",
    "test_calibration_error": "calibration error",
    "k": "k",
    "silhouette": "silhouette",
    "least_stability": "least stability",
}
HEADER = ("run", "started", "version", "data")


@dataclass(frozen=True)
class Rerun(Plain):
    """A recorded run done again.

    Attributes:
        study: Its study.
        run_id: The run.
        recorded: Digest of the model that it kept.
        found: Digest of the model that came out now.
    """

    MORE = ("holds",)

    study: str
    run_id: str
    recorded: str
    found: str

    @property
    def holds(self) -> bool:
        """Whether it is the same model."""
        return self.recorded == self.found

    def __str__(self) -> str:
        if self.holds:
            return f"{self.study}: the same data and parameters give the same model, {self.found[:16]}"
        return (
            f"{self.study}: the same data and parameters give another model, {self.found[:16]} instead of "
            f"{self.recorded[:16]}. Hint: another XGBoost, scikit-learn, machine, or version of this program."
        )


@dataclass(frozen=True)
class Compared(Plain):
    """Runs of one study beside each other.

    Attributes:
        study: Its name.
        runs: The newest first.
        changed: What was declared differently: per key, what each run says.
        fought: The newest against the oldest on the same rows, where two propensities are compared.
    """

    study: str
    runs: Sequence[Run]
    changed: Mapping[str, Sequence[str]]
    fought: Duel | None

    def __str__(self) -> str:
        if not self.runs:
            return f"{self.study} has not been run yet. Hint: `ethogram study run {self.study}`."
        lines = [self._table().text()]
        if len({run.tags.get(DATA) for run in self.runs}) > 1:
            lines.append("Not all of them saw the same rows (data): figures of different rows do not compare.")
        lines += [f"{name}: {' | '.join(said)}" for name, said in self.changed.items()]
        if self.fought is not None:
            lines.append(f"champion: {self.runs[-1].id[:8]}, challenger: {self.runs[0].id[:8]}; {self.fought}")
        return "\n".join(lines)

    def _table(self) -> pages.Table:
        shown = [name for name in FIGURES if any(name in run.metrics for run in self.runs)]
        rows = [
            [run.id[:8], iso(run.started)[:16], run.tags.get(VERSION, "-"), run.tags.get(DATA, "")[:8]]
            + [_figure(run, name) for name in shown]
            for run in self.runs
        ]
        return pages.Table([*HEADER, *(FIGURES[name] for name in shown)], rows, texts=len(HEADER))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told = super().to_dict()
        return {**told, "duel": told.pop("fought")}


def _figure(run: Run, name: str) -> str:
    if name not in run.metrics:
        return "-"
    low, high = run.metrics.get(f"{name}_low"), run.metrics.get(f"{name}_high")
    ends = f" [{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""
    return f"{run.metrics[name]:.4g}{ends}" if name == "k" else f"{run.metrics[name]:.4f}{ends}"


def compare(project: Project, study: str, runs: Sequence[str] = ()) -> Compared:
    """Runs of a study beside each other; of two propensities also the paired difference on the newer one's test rows.

    Args:
        project: Whose.
        study: Its name.
        runs: Run ids or their beginnings, or versions of the model; the newest SHOWN where none is named.

    Raises:
        StudyError: an unknown run.
    """
    tracking = Tracking(project)
    known = tracking.runs(study)
    chosen = [_named(known, study, name) for name in dict.fromkeys(runs)] if runs else known[:SHOWN]
    chosen = sorted(chosen, key=lambda run: -run.started)
    names = sorted({name for run in chosen for name in run.params})
    said = {name: [run.params.get(name, "-") for run in chosen] for name in names}
    changed = {name: values for name, values in said.items() if len(set(values)) > 1} if len(chosen) == 2 else {}
    return Compared(study, chosen, changed, _fought(project, tracking, study, chosen) if len(chosen) == 2 else None)


def _named(known: Sequence[Run], study: str, name: str) -> Run:
    versions = [run for run in known if run.tags.get(VERSION) == name]
    found = versions or [run for run in known if run.id.startswith(name)]
    if len(found) != 1:
        what = "no finished run" if not found else "more than one run"
        raise StudyError(f"{what} of {study!r} is {name!r}. Hint: `ethogram study compare {study}` lists them.")
    return found[0]


def _fought(project: Project, tracking: Tracking, study: str, chosen: Sequence[Run]) -> Duel | None:
    """Both models on the newer run's test rows, where both take the project's features."""
    newer, older = chosen
    record = _record(tracking, newer)
    if record is None or record["spec"]["kind"] != "propensity" or any(VERSION not in run.tags for run in chosen):
        return None
    versions = {str(each.version): each for each in tracking.versions(tracking.name(study))}
    models = [tracking.model(versions[run.tags[VERSION]]) for run in (older, newer)]
    asked = Study(*studies.one({"name": study, **record["spec"]}))
    test = asked.rows(project, cuts=_cuts(asked, record)).split_by_time()[2]
    if any(model.features != test.matrix.fingerprint for model in models):
        return None
    return between(study, test, *(model.score(test.matrix) for model in models))


def rerun(project: Project, run_id: str, *, progress: Progress | None = None) -> Rerun:
    """Fit the chosen trial's parameters again on the recorded data; nothing is recorded and nothing registered.

    The rows come from the log as it is now, as of the recorded instants: what became known later is in none of them.

    Raises:
        StudyError: there is no such run, it kept no model, or its rows cannot be built any more; the message says what
            has changed.
    """
    say = progress or (lambda _line: None)
    tracking = Tracking(project)
    run = tracking.run(run_id)
    record = _record(tracking, run) if run is not None else None
    if run is None or record is None:
        raise StudyError(f"there is no run {run_id!r} of a study. Hint: `ethogram study compare NAME` lists them.")
    if DIGEST not in run.tags:
        raise StudyError(f"the run {run_id!r} kept no model: {run.tags.get('ethogram.verdict', 'it did not end')}.")
    study = Study(*studies.one({"name": record["study"], **record["spec"]}))
    rows = _recorded(project, study, record, run)
    say(str(rows))
    fitted = study.fit(rows, partial(_found, tracking.trials(run.id)))
    versions = tracking.versions(tracking.name(study.name))
    recorded = tracking.model(next(each for each in versions if str(each.version) == run.tags[VERSION]))
    fitted = replace(fitted, model=_called(fitted.model, recorded))
    with scratch() as temporary:
        folder = store(Path(temporary) / "models", fitted, rows, seed=study.spec.search.seed)
        found = Model.load(folder, verify=True).digest
    return Rerun(study.name, run.id, run.tags[DIGEST], found)


def _called(model: Model, recorded: Model) -> Model:
    """The same model with the ids and names that clusters had taken over from the model before."""
    if model.kind != "clusters" or len(model.names) != len(recorded.names):
        return model
    details = {**model.details, "next_id": recorded.details["next_id"]}
    return replace(model, names=recorded.names, ids=recorded.ids, details=details)


def _record(tracking: Tracking, run: Run) -> dict[str, Any] | None:
    with scratch() as temporary:
        file = tracking.file(run.id, f"report/{RECORD}", Path(temporary))
        return json.loads(file.read_text(encoding="utf-8")) if file else None


def _cuts(study: Study, record: Mapping[str, Any]) -> Cuts | Anchors | None:
    if "file" in record["training_set"]:
        return None
    written = record["training_set"]["cuts"]
    event = studies.of_log(study.name, study.spec).cuts.on
    return Anchors.from_dict(event, written) if event is not None else Cuts.from_dict(written)


def _recorded(project: Project, study: Study, record: Mapping[str, Any], run: Run) -> TrainingSet:
    """The rows of the run, or a StudyError that says in what they differ from it now."""
    wanted = record["training_set"]
    if "file" not in wanted:
        now = Declared.of(project).features.fingerprint
        if now != wanted["features"]:
            raise StudyError(
                f"the features have changed since run {run.id}: fingerprint {now} instead of {wanted['features']}. "
                "Hint: take features.yaml, plan.yaml and features.lock back to what they were."
            )
    rows = study.rows(project, cuts=_cuts(study, record))
    if rows.fingerprint != wanted["data"]:
        names = ("n_rows", "n_users", "n_users_without_consent", "left_out", "label")
        there = rows.provenance
        apart = [
            f"{name} {there[name]} instead of {wanted[name]}" for name in names if there.get(name) != wanted.get(name)
        ]
        raise StudyError(
            f"the data of run {run.id} has changed since: {'; '.join(apart) or 'as many rows, other values'}. "
            f"Hint: erased persons, withdrawn consent, links and restated sources change the past; "
            f"`ethogram study run {study.name}` asks anew."
        )
    return replace(rows, provenance=wanted)


def _tried(trial: Run) -> Tried:
    params = {name: int(text) if text.lstrip("-").isdigit() else float(text) for name, text in trial.params.items()}
    figures = {name: value for name, value in trial.metrics.items() if name != "seconds"}
    return Tried(int(trial.tags[NUMBER]), trial.tags["ethogram.state"], params, figures, trial.metrics["seconds"])


def _found(trials: Sequence[Run], *_: object, direction: Directions, part: int = 0, **__: object) -> Found:
    """What was found before, as a searcher tells it."""
    mine = tuple(_tried(each) for each in trials if int(each.tags.get(PART, 0)) == part)
    return Found.of(mine, direction, len(mine))
