"""Commands about the project folder: `init` writes one, `doctor` says whether it can work."""

import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.terminal import PROJECT, JsonOption, ProjectOption, Told, answer, answered, table
from features.errors import EthogramError, ProjectError

if TYPE_CHECKING:
    from features.events.plan import Codes, TrackingPlan
    from features.project import Project

FILES = ("ethogram.yaml", "plan.yaml", "features.yaml", "studies.yaml")
PACKAGES = ("bentoml", "evidently", "mlflow", "numba", "optuna", "pandas", "polars", "scikit-learn", "xgboost")


def register(app: typer.Typer) -> None:
    """Add `init` and `doctor`."""
    app.command("init", rich_help_panel=PROJECT)(init)
    app.command("doctor", rich_help_panel=PROJECT)(answered(doctor))


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it may exist.")] = Path(),
    *,
    name: Annotated[str | None, typer.Option(help="Project name (default: the folder's).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the first files of a project; nothing that exists is touched."""
    folder = folder.resolve()
    project_name = name or "".join(letter if letter.isalnum() else "-" for letter in folder.name.lower()).strip("-")
    if not project_name[:1].isalpha():
        raise ProjectError(f"{project_name!r} is no project name. Hint: `ethogram init --name my-shop`.")
    folder.mkdir(parents=True, exist_ok=True)
    template = Path(__file__).parent / "template"
    written = [file for file in FILES if not (folder / file).exists()]
    for file in written:
        text = (template / file).read_text(encoding="utf-8").replace("{name}", project_name)
        (folder / file).write_text(text, encoding="utf-8")
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text(".ethogram/\nreports/\n", encoding="utf-8")
    kept = [file for file in FILES if file not in written]
    text = f"{folder}\n  wrote {', '.join(written) or 'nothing'}" + (f"\n  kept {', '.join(kept)}" if kept else "")
    text += (
        "\nNext: `ethogram ingest EVENTS.csv`, `ethogram study run purchase_7d`, `ethogram promote`, `ethogram serve`."
    )
    answer({"folder": str(folder), "name": project_name, "written": written, "kept": kept}, text, as_json=as_json)


def doctor(*, project: ProjectOption = None) -> Told:
    """Check the machine and the project: packages, compiled loops, definition files, log, model, service folder."""
    checks = [*_packages(), _kernels(), *_project(project)]
    rows = [(name, "ok" if ok else "FAULT", text) for name, ok, text in checks]
    document = {"checks": [{"name": name, "ok": ok, "detail": text} for name, ok, text in checks]}
    return Told(document, table(rows, ("check", "state", "detail")), failed=not all(ok for _, ok, _ in checks))


def _packages() -> list[tuple[str, bool, str]]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, True, version(name)))
        except PackageNotFoundError:
            found.append((name, False, "not installed. Hint: `make setup`."))
    return found


def _kernels() -> tuple[str, bool, str]:
    """The compiled loops, compiled once for this machine and kept."""
    from features import Codes, FeatureSet, Histories, TrackingPlan
    from features.segments.segment_set import SegmentSet

    plan = TrackingPlan.from_dict({"events": {"seen": {}}})
    features = FeatureSet.from_dict({"features": [{"count": ["seen"], "windows": ["1d"]}]}, plan, Codes.of(plan))
    begin = time.perf_counter()
    features.compute(Histories.from_states(features.schema, ["nobody"], [b""], [None]), 0)
    said = {"segments": {"seen": {"when": {"did": {"event": "seen"}}}}}
    segments = SegmentSet.from_dict(said, plan, Codes.of(plan), features)
    segments.evaluate(Histories.from_states(segments.schema, ["nobody"], [b""], [None]), 0)
    return "kernels", True, f"ready after {time.perf_counter() - begin:.1f} s"


def _definitions(project: "Project", plan: "TrackingPlan", codes: "Codes") -> tuple[str, bool, str]:
    """What features in Python cost, and whether they keep the laws."""
    from features.behaviour.feature_set import FeatureSet
    from features.behaviour.proof import prove

    try:
        proof = prove(FeatureSet.of(project, plan, codes, proven=True), plan)
    except EthogramError as error:
        return "definitions.py", False, str(error)
    return "definitions.py", not proof.broken, str(proof)


def _project(start: Path | None) -> list[tuple[str, bool, str]]:
    from features.events.plan import Codes, TrackingPlan
    from features.project import Project

    try:
        project = Project.find(start)
        plan = TrackingPlan.read(project.file("plan.yaml"))
        codes = Codes.of(plan, project.file("plan.lock"))
    except ProjectError as error:
        return [("project", start is None, str(error))]
    except EthogramError as error:
        return [("project", False, str(error))]
    checks = [
        ("project", True, f"{project.name} in {project.root}"),
        ("plan", True, f"{len(plan.events)} events, {len(plan.properties)} properties, {len(codes.codes)} codes"),
    ]
    if project.definitions:
        checks.append(_definitions(project, plan, codes))
    for name, setting, hint in (
        ("event log", "log", "ethogram ingest FILE"),
        ("champion", "bundles", "ethogram promote"),
        ("state", "state", "ethogram serve"),
    ):
        path = project.path(setting)
        checks.append((name, True, str(path) if path.exists() else f"none yet. Next: `{hint}`."))
    return checks
