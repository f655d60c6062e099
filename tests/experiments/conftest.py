"""What the tests of studies share: a project whose studies were run, and a database that is real."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from experiments.study import Study
from features.project import Project
from tests.experiments import projects


@pytest.fixture(scope="session")
def studied(tmp_path_factory):
    """A project with both studies run once; nobody changes it."""
    project = projects.make(tmp_path_factory.mktemp("studied") / "shop")
    return project, {name: Study.from_yaml(project, name).run(project) for name in ("buys_7d", "kinds")}


@pytest.fixture(scope="module")
def made(studied, tmp_path_factory):
    """A copy of it for one module, and what its studies found."""
    project, results = studied
    return Project.find(shutil.copytree(project.root, tmp_path_factory.mktemp("made") / "shop")), results


@pytest.fixture
def postgres():
    """A PostgreSQL of its own, on a socket in a folder, run by the user postgres where this is root."""
    folders = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    initdb, pg_ctl = (shutil.which(name, path=folders) for name in ("initdb", "pg_ctl"))
    if initdb is None or pg_ctl is None:
        pytest.fail("PostgreSQL is not installed: .ci/run installs it (Debian: apt-get install postgresql).")
    home = Path(tempfile.mkdtemp(prefix="pg-"))  # the path of a socket is short
    as_owner = []
    if Path("/root").owner() == Path.home().owner() == "root":
        shutil.chown(home, "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]
    subprocess.run(
        [*as_owner, initdb, "-D", str(home / "data"), "-U", "ethogram", "-A", "trust"], check=True, capture_output=True
    )
    options = f"-k {home} -c listen_addresses=''"
    subprocess.run(
        [*as_owner, pg_ctl, "-D", str(home / "data"), "-o", options, "-w", "-l", str(home / "log"), "start"],
        check=True,
        capture_output=True,
    )
    yield f"postgresql+psycopg://ethogram@/postgres?host={home}"
    subprocess.run(
        [*as_owner, pg_ctl, "-D", str(home / "data"), "-m", "immediate", "stop"], check=True, capture_output=True
    )
    shutil.rmtree(home)
