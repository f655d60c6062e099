"""Matured: what became of users who were served, as soon as the time that was asked about is over."""

import polars as pl

from experiments import pairs, studies
from experiments.drift import DriftReport, Sample
from experiments.outcomes import performance
from experiments.persistence import Window, persistent
from experiments.studies import PropensitySpec
from features.errors import AnalysisError, EthogramError
from features.events.log import EventLog
from features.instants import iso
from features.project import Project
from training.bundle import Bundle
from training.model import Model
from training.reference import REFERENCE

EMPTY = Sample(0, 0)


def judged(project: Project, bundle: Bundle, answers: pl.DataFrame, *, length: int) -> list[DriftReport]:
    """Performance of every propensity on served users whose outcome is known, against its training rows.

    Args:
        project: Its event log says what happened.
        bundle: Whose answers they are; its reference rows carry score and label.
        answers: Columns user (a pseudonym), at and `score_<study>`.
        length: Of a window, microseconds; windows end with the newest outcome that is known.
    """
    found = []
    for model in bundle.models.values():
        if model.kind == "propensity" and f"score_{model.study}" in answers.columns:
            try:
                found.append(_judged(project, bundle, model, answers, length))
            except EthogramError as problem:
                found.append(_silent(f"outcomes of {model.study} could not be judged: {problem}"))
    return found


def _judged(project: Project, bundle: Bundle, model: Model, answers: pl.DataFrame, length: int) -> DriftReport:
    file, score = bundle.path / "models" / model.study / REFERENCE, f"score_{model.study}"
    rows = pl.read_parquet(file) if file.exists() else pl.DataFrame()
    if "label" not in rows.columns:
        return _silent(f"outcomes of {model.study} are not judged: its training rows carry no label")
    known = outcomes(project, bundle, model.study, answers.select("user", "at", score))
    if known.is_empty():
        return _silent(f"no outcome of {model.study} is known yet")
    before = rows["label"].to_numpy(), rows["score"].to_numpy()

    def judge(window: Window) -> DriftReport:
        last = window.rows.unique("user", keep="last", maintain_order=True)
        after = last["label"].to_numpy(), last[score].to_numpy()
        sides = Sample(rows.height, rows.height), Sample(window.rows.height, last.height)
        found, silent = performance(*before, *after, name=score)
        return DriftReport(*sides, tuple(found), notes=silent)

    said = persistent(known, length, judge)
    silent = (note for note in said.notes if note.startswith(score))  # not which windows those were
    ended = f"outcomes of {model.study}: {known.height:,} answers up to {iso(int(known['at'].to_numpy().max()))}"
    return DriftReport(said.reference, said.current, said.findings, windows=said.windows, notes=(ended, *silent))


def outcomes(project: Project, bundle: Bundle, study: str, answers: pl.DataFrame) -> pl.DataFrame:
    """The answers about people of the study's population whose time is over, with the column `label`.

    Args:
        project: Its event log.
        bundle: That answered.
        study: A propensity; its model says what was asked, of whom, over which time.
        answers: Columns user (a pseudonym) and at; everything else is kept.

    Raises:
        EthogramError: the log cannot be read, or nobody can tell the label.
    """
    log, (_, spec) = EventLog.of(project), studies.one({"name": study, **bundle.models[study].details["spec"]})
    if not isinstance(spec, PropensitySpec):
        raise AnalysisError(f"the study {study!r} is no propensity.")
    rows = answers.filter(pl.col("at") <= log.span()[1] - spec.predicts.horizon - spec.blind_spot)
    return pairs.labelled(project, log, bundle, study, spec, rows.sort("at")).drop("person")


def _silent(note: str) -> DriftReport:
    return DriftReport(EMPTY, EMPTY, (), notes=(note,))
