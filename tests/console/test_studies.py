"""The commands about studies, as a person types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from console.cli import main
from tests.experiments import projects

ROOT = Path(__file__).parent.parent.parent


def ethogram(*words, **environment):
    """The program in its own process."""
    command = [sys.executable, "-m", "console.cli", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return projects.make(tmp_path_factory.mktemp("cli") / "shop", n_users=200)


@pytest.fixture
def run(project, monkeypatch, capsys):
    """The program's own door, in this process: (exit code, standard output, standard error)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ethogram", *words, "--project", str(project.root)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    return call


def test_features_are_listed_with_their_meaning(run):
    code, shown, _ = run("features")
    assert code == 0
    assert "count_viewed_7d" in shown
    assert "number of viewed, last 7d" in shown
    document = json.loads(run("features", "--json")[1])
    assert document["features"][0] == {"name": "count_any_7d", "meaning": "number of any, last 7d"}


def test_every_kind_of_feature_has_a_meaning():
    from features.behaviour.feature import MEANINGS
    from features.behaviour.kernel import DECLARABLE

    assert {stat for family in DECLARABLE for stat in family.stats} <= set(MEANINGS)


def test_mined_patterns_are_shown_as_an_entry_to_paste(run):
    code, shown, _ = run("features", "--mine", "buys_7d", "--support", "0.001")
    assert code == 0
    assert "- [viewed, bought]" in shown
    document = json.loads(run("features", "--mine", "buys_7d", "--of", "viewed", "--support", "0.001", "--json")[1])
    assert document["patterns"][0]["pattern"] == ["viewed", "viewed"]
    assert "by PrefixSpan" in document["mined"]
    assert run("features", "--mine", "buys_7d", "--of", "vieved")[0] == 2


def test_everybodys_rows_are_written(run, tmp_path):
    code, shown, _ = run("features", "--out", str(tmp_path / "rows"), "--at", "2026-02-20", "--json")
    assert code == 0
    assert json.loads(shown)["n_users"] == 200
    assert sum(pl.read_parquet(file).height for file in (tmp_path / "rows").iterdir()) == 200
    assert run("features", "--out", str(tmp_path / "rows"))[0] == 2
    assert "Hint: `ethogram promote`." in run("features", "--out", str(tmp_path / "more"), "--scores")[2]


def test_mistakes_end_with_2_and_one_line(run):
    mistake = "error: unknown study 'buys_9d'. Hint: did you mean 'buys_7d'?\n"
    assert run("study", "run", "buys_9d") == (2, "", mistake)
    assert run("study", "show", "buys_9d") == (2, "", mistake)
    assert run("promote", "--model", "buys_7d") == (2, "", "error: --model is STUDY=VERSION. Got 'buys_7d'.\n")
    code, shown, told = run("promote")
    assert (code, shown) == (2, "")
    assert "Hint: `ethogram study run NAME`." in told


@pytest.mark.integration
def test_from_log_to_champion_and_back(project, run):
    """Each command that writes in a process of its own, once; what follows finds what they left."""
    study = ethogram("study", "run", "buys_7d", "-C", project.root)
    assert study.returncode == 0, study.stderr
    assert "study buys_7d:" in study.stdout
    assert "buys_7d: trial 4/4" in study.stderr
    assert json.loads(run("study", "run", "kinds", "--json")[1])["version"] == 1
    first = json.loads(ethogram("promote", "-C", project.root, "--json").stdout)
    assert first["changed"]
    assert (project.path("bundles") / "CURRENT").read_text().strip() == first["digest"]
    assert "nothing changed" in run("promote")[1]
    assert "buys_7d" in run("study", "list")[1]
    assert first["digest"] != json.loads(run("study", "show", "kinds", "--json")[1])
    code, _, told = run("rollback")
    assert code == 2
    assert "no previous bundle" in told


@pytest.mark.integration
def test_mlflow_run_does_the_same(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=200)
    words = ["run", str(ROOT), "--env-manager", "local", "-e", "study"]
    words += ["-P", "name=kinds", "-P", f"project={project.root}"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(ethogram("study", "list", "-C", project.root, "--json").stdout)["studies"]
    assert [each["version"] for each in listed] == [None, 1]
    assert (project.root / ".ethogram" / "mlflow.db").exists()


def test_the_mlproject_names_commands_that_exist():
    from typer.main import get_command

    from console.cli import app

    text = (ROOT / "MLproject").read_text()
    commands = get_command(app).commands
    used = [line.split("console.cli ")[1].split() for line in text.splitlines() if "command:" in line]
    assert [words[0] for words in used] == ["study", "drift", "loop", "ab"]
    for words in used:
        if words[0] in commands and hasattr(commands[words[0]], "commands"):
            assert words[1] in commands[words[0]].commands


def test_functions_of_definitions_py_are_listed_proven_and_refused(tmp_path, monkeypatch, capsys):
    """A log is not needed for it; what breaks a law stops every command but the one that tells of it."""
    for name in ("ethogram.yaml", "plan.yaml", "features.yaml"):
        (tmp_path / name).write_text(projects.FILES[name], encoding="utf-8")
    code = "from features import feature\n\n\n@feature(windows='7d')\ndef pace(user, at):\n    return len(user) / 7\n"

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ethogram", *words, "--project", str(tmp_path)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    (tmp_path / "definitions.py").write_text(code, encoding="utf-8")
    code_, shown, _ = run("features")
    assert code_ == 0
    assert "pace_7d" in shown
    assert "pace (in Python, slower), last 7d" in shown
    (tmp_path / "definitions.py").write_text(code.replace("len(user)", "id(user)"), encoding="utf-8")
    code_, shown, _ = run("features", "check", "--logs", "5")
    assert code_ == 1
    assert "definitions.py:4: pace_7d breaks a law: a request gives what batch gave" in shown
    code_, _, told = run("features")
    assert (code_, told[:48]) == (2, "error: definitions.py:4: pace_7d breaks a law: a")


@pytest.mark.integration
def test_the_doctor_says_what_functions_of_definitions_py_cost(project, run):
    path = project.root / "definitions.py"
    text = "from features import feature\n\n\n@feature(windows='7d')\ndef pace(user, at):\n    return len(user) / 7\n"
    path.write_text(text, encoding="utf-8")
    try:
        code, shown, _ = run("doctor")
    finally:
        path.unlink()
    assert code == 0
    assert "1 features in Python, slower than declared ones" in shown
