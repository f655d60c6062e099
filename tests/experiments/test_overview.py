"""One page over all reports, each thing in its order, and links that lead somewhere."""

import json
import re
from dataclasses import replace
from pathlib import Path

from experiments.drift import DriftReport, Finding, Sample
from experiments.overview import overview
from experiments.shift import Shift
from features.project import Project

ESTIMATE = {"value": 0.7, "low": 0.6, "high": 0.8}
FIGURES = {"roc_auc": ESTIMATE, "log_loss": ESTIMATE}
DUEL = {"study": "buys", "champion": FIGURES, "challenger": FIGURES, "difference": FIGURES}


def look(verdict: str, moved: int) -> dict[str, object]:
    sample = Sample(500, 500)
    shift = Shift("visits", "values", 1.0, 2.0, 0.0, 0.3, 0.05, "mean")
    findings = tuple(Finding("inputs", replace(shift, column=f"visits_{n}"), 0.0, ("buys",)) for n in range(moved))
    report = DriftReport(sample, sample, findings)
    assert report.verdict == verdict
    return report.to_dict()


def decision(day: int, answer: str, duels: list[object]) -> dict[str, object]:
    said = {"answer": answer, "triggers": ["drift"], "reasons": [f"because of day {day}"], "duels": duels}
    return {"at": f"2026-10-{day:02d}T00:00:00Z", **said}


def made(folder: Path) -> str:
    (folder / "ethogram.yaml").write_text("version: 1\nname: shop\n", encoding="utf-8")
    return overview(Project.find(folder)).read_text(encoding="utf-8")


def write(path: Path, document: object, page: str) -> None:
    path.mkdir(parents=True)
    (path / page).write_text("<p>", encoding="utf-8")
    (path / page.replace("html", "json")).write_text(json.dumps(document), encoding="utf-8")


def test_an_empty_folder_says_what_to_do_first(tmp_path: Path) -> None:
    page = made(tmp_path)
    assert "no decision yet" in page
    assert "nothing was looked at yet" in page


def test_looks_and_decisions_stand_in_their_order_and_every_link_leads_to_a_file(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    write(reports / "drift-20261009T000000Z", look("drift", 3), "drift.html")
    write(reports / "drift-20261002T000000Z", look("no drift", 0), "drift.html")
    write(reports / "loop-2", decision(9, "promoted", [DUEL]), "loop.html")
    write(reports / "loop-1", decision(3, "in shadow", [DUEL]), "loop.html")
    write(reports / "loop-0", decision(2, "nothing to do", []), "loop.html")
    write(reports / "loop-broken", [], "loop.html")
    write(reports / "study-buys", {}, "card.html")
    (reports / "ab.html").write_text("<p>", encoding="utf-8")
    page = made(tmp_path)
    assert "because of day 9" in page[: page.index("<section>")]  # the newest decision comes first
    assert page.index("2026-10-09T00:00:00Z</td><td") < page.index("2026-10-02T00:00:00Z</td><td")
    links = re.findall(r'href="([^"]+)"', page)
    wanted = {"drift-20261009T000000Z/drift.html", "loop-2/loop.html", "loop-1/loop.html", "ab.html"}
    assert wanted <= set(links)
    assert "loop-0/loop.html" not in links  # nothing was decided
    assert all((reports / link).exists() for link in links)
    assert page.count("<img") == 2  # drift over time, and the contests
