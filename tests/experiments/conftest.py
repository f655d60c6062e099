"""A database that is real."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


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
