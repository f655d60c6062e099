"""`init` and `doctor`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli import app
from features.events.plan import TrackingPlan
from features.project import Project

runner = CliRunner()


def test_init_writes_four_files_that_the_project_reads(tmp_path: Path) -> None:
    answer = runner.invoke(app, ["init", str(tmp_path / "my-shop"), "--json"])
    assert answer.exit_code == 0, answer.output
    assert len(json.loads(answer.stdout)["written"]) == 4
    project = Project.find(tmp_path / "my-shop")
    assert project.name == "my-shop"
    assert "order_completed" in TrackingPlan.read(project.file("plan.yaml")).events


def test_init_touches_nothing_that_exists(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("mine", encoding="utf-8")
    answer = runner.invoke(app, ["init", str(tmp_path), "--name", "shop", "--json"])
    assert json.loads(answer.stdout)["kept"] == ["plan.yaml"]
    assert (tmp_path / "plan.yaml").read_text(encoding="utf-8") == "mine"


def test_doctor_names_the_fault_of_a_misspelt_plan(tmp_path: Path) -> None:
    runner.invoke(app, ["init", str(tmp_path), "--name", "shop"])
    (tmp_path / "plan.yaml").write_text("version: 1\nevents:\n  a:\n    propertis: {}\n", encoding="utf-8")
    answer = runner.invoke(app, ["doctor", "-C", str(tmp_path)])
    assert answer.exit_code == 1
    assert "plan.yaml:4" in answer.output
    assert "did you mean 'properties'" in answer.output


def test_doctor_is_content_with_a_new_project(tmp_path: Path) -> None:
    runner.invoke(app, ["init", str(tmp_path), "--name", "shop"])
    answer = runner.invoke(app, ["doctor", "-C", str(tmp_path), "--json"])
    assert answer.exit_code == 0, answer.output
    assert all(check["ok"] for check in json.loads(answer.stdout)["checks"])


def test_help_is_quick(tmp_path: Path) -> None:
    """Imports happen inside commands: half a second is the promise, three of the processor's the alarm."""
    import resource
    import subprocess
    import sys

    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run([sys.executable, "-m", "console.cli", "--help"], capture_output=True, text=True, check=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "init" in answer.stdout
    assert end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime < 3


def test_doctor_outside_a_project_looks_at_the_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = runner.invoke(app, ["doctor", "--json"])
    assert answer.exit_code == 0, answer.output
    checks = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    assert checks["kernels"]["detail"].startswith("ready after")
    assert "ethogram init" in checks["project"]["detail"]


def test_doctor_of_a_folder_that_is_no_project_finds_a_fault(tmp_path: Path) -> None:
    assert runner.invoke(app, ["doctor", "-C", str(tmp_path)]).exit_code == 1
