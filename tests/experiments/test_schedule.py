"""The schedules that the documentation shows do what they say: the cron line, and the steps of the workflow."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from console.cli import app
from experiments.tracking import Tracking
from features.project import Project
from tests import locks
from tests.experiments.projects import make

ROOT = Path(__file__).parents[2]
WORKFLOW = YAML().load(ROOT / "examples" / "schedule" / "loop.yml")


def cron_line() -> str:
    """The line of docs/loop.md, its five fields apart."""
    text = (ROOT / "docs" / "loop.md").read_text(encoding="utf-8")
    found = re.search(r"^((?:\S+ ){5})(cd .*)$", text, re.MULTILINE)
    assert found is not None
    assert all(re.fullmatch(r"\*|\d+", field) for field in found[1].split())
    return found[2]


def shell(line: str, folder: Path, **environment: str) -> None:
    """Run it as cron, or a runner, does: by a shell, with the programs of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(["sh", "-ec", line], cwd=folder, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def prefect_python() -> Path:
    """The python of an environment with what requirements/prefect.lock names; made once a machine and lock."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    place = cache / "ethogram" / f"prefect-{locks.digest(locks.LOCKS['prefect'])}"
    python, made = place / "bin" / "python", place / "complete"
    if not made.exists():
        uv, lock = Path(sys.executable).parent / "uv", ROOT / "requirements" / "prefect.lock"
        for step in (["venv", "--clear", "--python", sys.executable, place], ["pip", "sync", "--python", python, lock]):
            done = subprocess.run([uv, *step], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        made.touch()
    return python


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("schedule") / "my-shop", n_users=400)


@pytest.mark.integration
def test_the_cron_line_and_the_workflow_take_turns(project: Project, tmp_path: Path) -> None:
    line = cron_line().replace("/srv/my-shop", str(project.root))
    shell(line.replace("/srv/ethogram/.venv/bin", str(Path(sys.executable).parent)), tmp_path)
    assert '"answer": "promoted"' in (project.root / "loop.log").read_text(encoding="utf-8")
    steps = [step["run"] for step in WORKFLOW["jobs"]["turn"]["steps"] if "ethogram loop" in step.get("run", "")]
    assert len(steps) == 2
    for step in steps:
        shell(step, tmp_path, ETHOGRAM_PROJECT=str(project.root), FORCE="")
    decided = [run.tags["ethogram.decision"] for run in Tracking(project).runs("loop")]
    assert sorted(decided) == ["nothing to do", "promoted"]


@pytest.mark.integration
def test_the_prefect_flow_takes_a_turn_and_shows_the_decision(project: Project, tmp_path: Path) -> None:
    """As its text says, with a server of its own that lives for the run, on the loopback interface."""
    before = len(Tracking(project).runs("loop"))
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    patient = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}
    flow = ROOT / "examples" / "schedule" / "prefect_flow.py"
    shell(f"'{prefect_python()}' '{flow}' once", tmp_path, ETHOGRAM_PROJECT=str(project.root), **quiet, **patient)
    turns = Tracking(project).runs("loop")
    assert len(turns) == before + 1
    answers = {run.tags["ethogram.decision"] for run in turns}
    with closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as kept:
        assert kept.execute("SELECT state_type FROM flow_run").fetchall() == [("COMPLETED",)]
        (told,) = kept.execute("SELECT data FROM artifact WHERE key = 'ethogram-decision'").fetchone()
    assert json.loads(told).splitlines()[0].removeprefix("# ") in answers


def test_the_workflow_runs_one_turn_at_a_time_and_by_a_button() -> None:
    assert WORKFLOW["concurrency"] == {"group": "loop", "cancel-in-progress": False}
    assert set(WORKFLOW["on"]) == {"schedule", "workflow_dispatch"}
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_the_orchestrators_call_commands_that_exist() -> None:
    """Airflow is run nowhere here: what it types is read from its file, and what Prefect types too."""
    known = {f"loop {name}" for name in getattr(get_command(app), "commands", {})["loop"].commands}
    dag, flow = ((ROOT / "examples" / "schedule" / name).read_text() for name in ("airflow_dag.py", "prefect_flow.py"))
    turn = json.loads(re.findall(r"TURN = (\[.*\])", flow)[0])
    typed = [*re.findall(r"ethogram (loop \w+) ", dag), " ".join(turn[1:3])]
    assert typed == ["loop run", "loop status", "loop run"]
    assert set(typed) <= known
    assert dag.count('"17 */6 * * *"') == flow.count('"17 */6 * * *"') == 1
    assert WORKFLOW["on"]["schedule"][0]["cron"] == "17 */6 * * *"
