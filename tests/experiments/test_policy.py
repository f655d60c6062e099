"""loop.yaml: faults are named with their line, and gates are significant and material."""

from pathlib import Path

import pytest

from experiments.duel import Duel
from experiments.policy import Gates, Policy
from features.errors import DefinitionError
from features.instants import DAY
from features.project import Project
from training.validation import METRICS, Estimate


def fought(**apart: tuple[float, float]) -> Duel:
    """A duel of two whose figures differ by what lies between low and high; nothing else does."""
    same = {metric: Estimate(0.5, 0.4, 0.6) for metric in METRICS}
    told = {metric: Estimate((low + high) / 2, low, high) for metric, (low, high) in apart.items()}
    nothing = {metric: Estimate(0.0, -0.001, 0.001) for metric in METRICS}
    return Duel("a", 0, 900, 900, 90, same, same, {**nothing, **told})


@pytest.mark.parametrize(
    ("apart", "why"),
    [
        ({"roc_auc": (0.01, 0.03)}, ""),
        ({"log_loss": (-0.03, -0.01)}, ""),
        ({}, "no different"),
        ({"roc_auc": (0.001, 0.003)}, "does not matter"),
        ({"log_loss": (-0.003, -0.001)}, "does not matter"),
        ({"roc_auc": (-0.03, -0.01)}, "worse"),
        ({"roc_auc": (0.01, 0.03), "log_loss": (0.01, 0.03)}, "worse"),
        ({"roc_auc": (0.01, 0.03), "calibration_error": (0.03, 0.05)}, "guardrail calibration error"),
        ({"roc_auc": (0.01, 0.03), "average_precision": (-0.03, -0.01)}, "guardrail average precision"),
        ({"roc_auc": (0.01, 0.03), "calibration_error": (0.01, 0.03)}, ""),
        ({"roc_auc": (0.01, 0.03), "lift_top_decile": (-0.03, -0.01)}, ""),
    ],
)
def test_a_challenger_passes_when_it_is_surely_and_noticeably_better_and_no_guardrail_is_crossed(
    apart: dict[str, tuple[float, float]], why: str
) -> None:
    failed = list(Gates().failed(fought(**apart)))
    assert (why in failed[0]) if why else not failed


@pytest.mark.parametrize(
    ("apart", "unsure"),
    [
        ({"log_loss": (-0.03, -0.01), "roc_auc": (-0.01, 0.02)}, True),
        ({"log_loss": (-0.03, -0.01), "roc_auc": (-0.004, 0.02)}, False),  # it passes
        ({"log_loss": (-0.03, -0.01), "roc_auc": (-0.02, -0.01)}, False),  # it ranks worse
        ({"log_loss": (-0.003, -0.001), "roc_auc": (-0.01, 0.02)}, False),  # it does not matter
        ({"log_loss": (-0.03, 0.01), "roc_auc": (-0.01, 0.02)}, False),  # no gain is shown
        ({"log_loss": (-0.03, -0.01), "roc_auc": (-0.01, 0.02), "average_precision": (-0.2, -0.1)}, False),
    ],
)
def test_a_longer_look_is_for_a_gain_that_is_shown_and_a_ranking_that_is_not_told_apart(
    apart: dict[str, tuple[float, float]], unsure: bool
) -> None:
    assert Gates().unsure(fought(**apart)) == unsure


def project(folder: Path, text: str | None = None) -> Project:
    (folder / "ethogram.yaml").write_text("version: 1\nname: shop\n", encoding="utf-8")
    if text is not None:
        (folder / "loop.yaml").write_text(text, encoding="utf-8")
    return Project.find(folder)


def test_without_a_file_the_defaults_hold_and_with_one_its_keys(tmp_path: Path) -> None:
    assert Policy.of(project(tmp_path)) == Policy()
    text = "version: 1\ntriggers: {every: 14d, drift: false}\nshadow: off\napproval: person\n"
    policy = Policy.of(project(tmp_path, text))
    assert (policy.triggers.every, policy.triggers.drift, policy.shadow, policy.approval) == (
        14 * DAY,
        False,
        None,
        "person",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "version: 1\ntriger: {every: 7d}\n",
            "loop.yaml:2: triger: unknown key 'triger'. Hint: did you mean 'triggers'?",
        ),
        ("version: 1\ntriggers:\n  every: soon\n", "loop.yaml:3: triggers.every: "),
        (
            "version: 1\ngates:\n  roc_auc: 0.01\n  guardrails: {roc_auc: 0}\n",
            "loop.yaml:4: gates.guardrails.roc_auc: ",
        ),
        ("version: 1\nbudget: {studies: 0}\n", "loop.yaml:2: budget.studies: "),
        ("version: 1\nshadow:\n  outcomes: 3\n", "loop.yaml:3: shadow.outcomes: "),
        ("version: 1\napproval: me\n", "loop.yaml:2: approval: "),
        ("version: 1\nab:\n  metrics:\n    bought: {conversion: bought}\n", "loop.yaml:2: ab: a metric is one of"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Policy.of(project(tmp_path, text))
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_the_file_that_the_documentation_shows_is_the_defaults(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "loop.md").read_text(encoding="utf-8")
    shown = page.split("```yaml\n")[1].split("```")[0]
    assert Policy.of(project(tmp_path, shown)) == Policy()
    assert all(f"\n{key}:" in f"\n{shown}" for key in Policy.model_fields)
