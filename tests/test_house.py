"""The house stands: layers, import weight, fresh locks, and nothing of any machine in the text."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import locks

ROOT = Path(__file__).parent.parent
HEAVY = ("mlflow", "optuna", "evidently", "pandas", "xgboost", "sklearn", "matplotlib")


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("package", ["features", "training", "serving", "console.cli"])
def test_importing_a_package_brings_no_heavy_library(package: str) -> None:
    """Checked where it happens: in a fresh process."""
    code = f"import sys, {package}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


def test_importing_the_studies_brings_no_tracking_library() -> None:
    code = "import sys, experiments; print(sorted({'mlflow', 'optuna', 'evidently'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


def test_the_locks_are_fresh() -> None:
    assert locks.faults() == []


def test_a_changed_requirement_makes_a_lock_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "requirements", lambda _extras: ["numpy>=99"])
    assert [fault for fault in locks.faults() if "stale" in fault]


def test_no_file_names_a_package_registry_or_a_path_of_a_machine() -> None:
    registry = re.compile(r"(pypi|files\.pythonhosted|registry\.npmjs|deb\.debian)\.(org|com)|/(root|home)/\w+/|/work/")
    hits = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if path.suffix != ".png" and path != Path(__file__)
        for match in registry.finditer(path.read_text(encoding="utf-8"))
    ]
    assert hits == []


@pytest.mark.parametrize("oracle", ["behaviour/oracle", "segments/naive"])
def test_an_oracle_knows_nothing_of_what_it_judges(oracle: str) -> None:
    said = [
        each
        for file in (Path("tests/features") / oracle).glob("*.py")
        for each in ast.walk(ast.parse(file.read_text()))
    ]
    imported = {each.module or "" for each in said if isinstance(each, ast.ImportFrom)}
    imported |= {name.name for each in said if isinstance(each, ast.Import) for name in each.names}
    assert said
    ours = {name for name in imported if name.startswith(("features", "training", "serving", "experiments"))}
    assert ours <= {"features.events.plan"}


def test_no_data_set_is_tracked() -> None:
    assert [path for path in tracked() if path.suffix in {".csv", ".gz", ".parquet", ".mmdb", ".zip", ".db"}] == []


def test_top_level_folders_have_earned_their_place() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1}
    visible = {folder for folder in folders if not folder.startswith(".")}
    assert visible <= {
        *("features", "training", "serving", "experiments", "console"),
        *("tests", "benchmarks", "docs", "examples", "requirements", "deploy", "sdk"),
    }
