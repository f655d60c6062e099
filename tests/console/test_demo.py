"""The demo tells its story to the end, answers while it is kept, and leaves nothing running."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli import app

ROOT = Path(__file__).parents[2]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    answer = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path)])
    assert "holds something else" in str(answer.exception)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "mine"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A small demo with `--keep`, at the point where it waits."""
    folder = tmp_path_factory.mktemp("demo")
    printed = folder / "printed.txt"
    command = [sys.executable, "-m", "console.cli", "demo", "--folder", str(folder / "shop"), "--users", "2500"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with printed.open("wb") as out, (folder / "notes.txt").open("wb") as notes:
        process = subprocess.Popen([*command, "--keep"], stdout=out, stderr=notes, env=environment, cwd=ROOT)
        end = time.monotonic() + 1800
        while "Ctrl-C ends both" not in printed.read_text(encoding="utf-8"):
            assert process.poll() is None, (folder / "notes.txt").read_text(encoding="utf-8")[-3000:]
            assert time.monotonic() < end, printed.read_text(encoding="utf-8")
            time.sleep(0.5)
        yield process, printed
        process.kill()


@pytest.mark.integration
def test_the_kept_demo_answers_the_line_it_prints_and_ends_with_ctrl_c(
    kept: tuple["subprocess.Popen[bytes]", Path],
) -> None:
    process, printed = kept
    told = printed.read_text(encoding="utf-8")
    for said in ("ceiling", "floor", "drift", "planted:", "decision:", "champion"):
        assert said in told
    line = re.search(r"curl -s (\S+) -d '(.*)'", told)
    assert line is not None
    request = urllib.request.Request(line[1], data=line[2].encode(), headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        document = json.load(answer)
    assert document["source"] == "live"
    assert 0 <= document["scores"]["purchase_7d"]["probability"] <= 1
    page = re.search(r"MLflow +(http://\S+)", told)
    assert page is not None
    _eventually(lambda: urllib.request.urlopen(page[1], timeout=60).status == 200)
    process.send_signal(signal.SIGINT)
    assert process.wait(180) == 0
    for address in (line[1], page[1]):
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(address, timeout=2)


@pytest.mark.integration
def test_the_demo_of_the_loop_promotes_and_draws_what_came_of_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "console.cli", "demo", "loop", "--folder", str(tmp_path / "shop")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for said in ("in shadow", "promoted: purchase_7d", " 0 failed", "nothing is left running"):
        assert said in done.stdout
    reports = tmp_path / "shop" / "reports"
    assert (reports / "promised.png").stat().st_size > 10_000
    assert (reports / "index.html").read_text(encoding="utf-8").count("<img") >= 2


def _eventually(holds: object, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if callable(holds) and holds():
                return
        except OSError:
            pass
        assert time.monotonic() < end
        time.sleep(0.5)
