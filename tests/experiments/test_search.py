"""The search, killed for real, goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import optuna
import pytest

from experiments.search import Found, Range, Tried, search, spaces
from features.errors import StudyError
from tests.patience import within

SPACE = {"x": Range(-5, 5), "n": Range(1, 9, whole=True), "rate": Range(0.01, 1.0, log=True)}


def bowl(params, report):
    """Least at x = 1, n = 3; a bad trial shows it in every round."""
    value = (params["x"] - 1) ** 2 + (params["n"] - 3) ** 2 + params["rate"]
    for round_ in range(60):
        report(round_, value)
    return {"value": value, "rounds": 60}


def run(folder, trials=12, **options):
    settings = {"name": "bowl", "trials": trials, "seed": 3, "direction": "minimize", **options}
    return search(bowl, SPACE, storage=Path(folder) / "journal.log", **settings)


def test_a_search_finds_the_bottom_and_prunes_on_the_way(tmp_path):
    found = run(tmp_path, trials=30)
    assert found.best.figures["value"] < 3
    assert len(found.trials) == 30
    assert found.n_pruned > 0
    assert all(1 <= trial.params["n"] <= 9 for trial in found.trials)
    assert found.best.figures["rounds"] == 60


def test_a_finished_search_tries_nothing_again(tmp_path):
    first, told = run(tmp_path), []
    again = run(tmp_path, on_trial=told.append)
    assert again.resumed == 12
    assert [trial.params for trial in again.trials] == [trial.params for trial in first.trials]
    assert len(told) == 12


def test_a_search_in_two_halves_tries_what_one_search_tries(tmp_path):
    whole = run(tmp_path / "a")
    run(tmp_path / "b", trials=5)
    halves = run(tmp_path / "b")
    assert halves.resumed == 5
    assert [trial.params for trial in halves.trials] == [trial.params for trial in whole.trials]


def test_a_search_that_is_killed_resumes_and_tries_what_an_undisturbed_one_tries(tmp_path):
    program = textwrap.dedent(
        f"""
        import time
        from tests.experiments import test_search

        def slow(params, report, bowl=test_search.bowl):
            time.sleep(0.05)
            return bowl(params, report)

        test_search.bowl = slow
        test_search.run({str(tmp_path / "killed")!r}, on_trial=lambda tried: print(tried.number, flush=True))
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) == 4:
            break
    time.sleep(0.03)  # into the middle of a trial
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    started = time.monotonic()
    resumed = run(tmp_path / "killed")
    assert time.monotonic() - started < within(20)
    assert 5 <= resumed.resumed < 12
    assert len(resumed.trials) == 12
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in run(tmp_path / "whole").trials]


def slow(params, report):
    """Some take longer than others, so that they do not end in the order in which they began."""
    time.sleep(0.02 if params["x"] < 0 else 0.15)
    return bowl(params, report)


def test_a_trial_whose_worker_was_ended_before_saying_who_it_is_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.search.NAMELESS_SECONDS", 0.5)
    run(tmp_path, trials=3)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log")))
    optuna.load_study(study_name="bowl", storage=storage).ask()
    assert len(run(tmp_path, trials=6).trials) == 6


def test_several_workers_share_a_search_and_try_as_often_as_asked(tmp_path):
    told = []
    found = search(
        slow,
        SPACE,
        storage=tmp_path / "journal.log",
        name="bowl",
        trials=40,
        seed=3,
        direction="minimize",
        workers=2,
        on_trial=told.append,
    )
    assert [trial.number for trial in found.trials] == list(range(40))
    assert sorted(told, key=lambda trial: trial.number) == list(found.trials)  # each once, under the same number
    assert len({trial.params["x"] for trial in found.trials}) == 40
    assert found.best.figures["value"] < 4


def test_what_cannot_be_handed_on_is_searched_by_one_worker(tmp_path):
    with pytest.raises(StudyError, match="searched by one worker only"):
        search(lambda p, r: bowl(p, r), SPACE, storage=tmp_path / "j", name="b", trials=2, seed=1,
               direction="minimize", workers=2)  # fmt: skip


def killed(params, report):
    """In another process than the first the second trial never ends: it is killed. The first waits for that."""
    file, me, asker = Path(os.environ["KILLED"]) / "pids", os.getpid(), int(os.environ["ASKER"])
    with file.open("a") as tries:
        tries.write(f"{me}\n")
    others = others_of(file, asker)
    if me != asker and others.count(me) == 2:
        os.kill(me, signal.SIGKILL)
    end = time.monotonic() + 240
    while me == asker and len(others) < 2 and time.monotonic() < end:
        time.sleep(0.05)
        others = others_of(file, asker)
    return slow(params, report)


def others_of(file, asker):
    return [int(line) for line in file.read_text().split() if int(line) != asker]


def shared(storage, monkeypatch, tmp_path):
    monkeypatch.setenv("KILLED", str(tmp_path))
    monkeypatch.setenv("ASKER", str(os.getpid()))
    options = {"name": "bowl", "trials": 12, "seed": 3, "direction": "minimize"}
    found = search(killed, SPACE, storage=storage, workers=2, **options)
    tries = (tmp_path / "pids").read_text().split()
    assert len(set(tries)) == 2
    assert len(found.trials) == 12
    assert len(tries) == 13  # one was lost


@pytest.mark.integration
def test_a_worker_that_is_killed_loses_its_trial_and_no_other(tmp_path, monkeypatch):
    shared(tmp_path / "journal.log", monkeypatch, tmp_path)


@pytest.mark.integration
def test_several_workers_share_a_search_in_postgresql(tmp_path, monkeypatch, postgres):
    shared(postgres, monkeypatch, tmp_path)


def test_given_parameters_are_tried_first(tmp_path):
    first = tuple({"x": 0.0, "n": n, "rate": 0.1} for n in (2, 5))
    found = run(tmp_path, trials=4, first=first)
    assert [trial.params["n"] for trial in found.trials[:2]] == [2, 5]


def test_time_runs_out_but_one_trial_is_always_made(tmp_path):
    assert len(run(tmp_path, timeout_s=0.0).trials) == 1


def test_more_is_better_where_asked(tmp_path):
    found = run(tmp_path, direction="maximize")
    assert found.best.figures["value"] == max(t.figures["value"] for t in found.trials if t.state == "complete")


def two(params, report):
    """Less of both is better, and less of one is more of the other; `n` above 6 is forbidden."""
    x, n = params["x"], params["n"]
    return {"near": (x - 1) ** 2 + n / 100, "far": (x + 1) ** 2 + n / 100, "violation": float(n > 6)}


def test_several_objectives_give_a_front_that_nothing_beats_and_a_choice_between_its_ends(tmp_path):
    aims = {"near": "minimize", "far": "minimize"}
    options = {"name": "two", "seed": 1, "direction": aims}
    found = search(two, SPACE, storage=tmp_path / "whole", trials=40, **options)
    able = [trial.figures for trial in found.trials if trial.figures["violation"] == 0]
    assert 0 < len(able) < 40
    for each in found.front:
        assert each.figures["violation"] == 0
        mine = (each.figures["near"], each.figures["far"])
        assert not any(other["near"] < mine[0] and other["far"] < mine[1] for other in able)
    assert len(found.front) > 3
    assert found.best in found.front
    assert abs(found.best.params["x"]) < 0.6
    search(two, SPACE, storage=tmp_path / "halves", trials=11, **options)
    halves = search(two, SPACE, storage=tmp_path / "halves", trials=40, **options)
    assert [trial.params for trial in halves.trials] == [trial.params for trial in found.trials]


def test_where_every_trial_breaks_a_constraint_the_one_that_breaks_it_least_is_found():
    trials = [Tried(0, "complete", {}, {"value": 9.0, "violation": 2.0}, 0), Tried(1, "pruned", {}, {"value": 9}, 0)]
    trials += [Tried(2, "complete", {}, {"value": 1.0, "violation": 0.5}, 0)]
    assert Found.of(trials, "maximize", 0).best.number == 2
    with pytest.raises(StudyError, match="no trial was completed"):
        Found.of(trials[1:2], "maximize", 0)


def test_a_space_takes_other_ends_and_names_mistakes():
    assert spaces(SPACE, {"x": (0, 1)})["x"] == Range(0, 1)
    with pytest.raises(StudyError, match="did you mean 'rate'"):
        spaces(SPACE, {"rat": (0, 1)})
    with pytest.raises(StudyError, match=r"space\.rate: \[0, 1\] is no range above 0"):
        spaces(SPACE, {"rate": (0, 1)})
