"""Bounds: with numba's own checks on, no loop reads or writes beside its arrays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BESIDE = """
import numpy as np
from features.behaviour.compiled import compiled, place, vector, views

@compiled
def write(arrays, k):
    room = vector(arrays, 0)
    room[place(k)] = 1
    return room[place(k)]

room = np.zeros(3, np.int64)
print(write(views([room]), 2))
write(views([room]), 3)
"""


@pytest.mark.integration
def test_no_loop_leaves_its_arrays(tmp_path: Path) -> None:
    checks = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=HERE.parents[2], env=checks, capture_output=True, text=True)

    beside = run("-c", BESIDE)
    assert beside.stdout == "1\n"
    assert "IndexError" in beside.stderr
    tests = [HERE / "test_laws.py", HERE / "test_mining.py"]
    ran = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not prove and not integration", *tests)
    assert ran.returncode == 0, ran.stdout[-3000:]
