"""Demo: a shop from raw events to a served, judged segment, by the commands a person would type."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from console.passing import Caller, free_port, program, served, stop
from console.terminal import PROJECT, note, show, table
from features.errors import ProjectError

if TYPE_CHECKING:
    from features.simulate import Shop, Truth
    from features.simulate.live import LiveDay

EXAMPLE = Path(__file__).parent.parent / "examples" / "shop"
LIVE_DAYS = 7
REPLAYED = 2_000
"""People whose live days go through the service, and whose segments the application asks for."""
MARK = ".made-by-ethogram-demo"


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command("demo", rich_help_panel=PROJECT)(demo)


def demo(
    story: Annotated[
        Literal["shop", "loop"], typer.Argument(help="`loop`: a change is planted, and the loop mends what is served.")
    ] = "shop",
    *,
    folder: Annotated[Path, typer.Option(help="Made anew each time.")] = Path("demo-shop"),
    users: Annotated[int, typer.Option(min=2_000, help="People of the simulated shop.")] = 20_000,
    days: Annotated[int, typer.Option(min=50, help="Days that are history when the demo begins.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed tells the same story.")] = 11,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service and MLflow's page up until Ctrl-C.")] = False,
) -> None:
    """Simulate a shop, learn from it, serve it, judge it; ends by itself and leaves nothing running."""
    from console.circle import circle
    from features.simulate import Shop

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped on the way out
    with contextlib.suppress(KeyboardInterrupt):
        if story == "loop":
            circle(_fresh(folder), seed=seed)
        else:
            Story(_fresh(folder), Shop(users=users, days=days, seed=seed), keep=keep).tell()


def _fresh(folder: Path) -> Path:
    """The folder with the shop's definitions and nothing else; only what a demo made is removed."""
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ProjectError(f"{folder} holds something else. Hint: `ethogram demo --folder ANOTHER`.")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLE, folder)
    (folder / MARK).touch()
    return folder


class Story:
    """The demo's chapters, told in order."""

    def __init__(self, folder: Path, shop: "Shop", *, keep: bool) -> None:
        self.folder = folder
        self.shop = shop
        self.keep = keep
        self.begin = time.perf_counter()
        os.environ.update(ETHOGRAM_PROJECT=str(folder), BENTOML_HOME=str(folder / ".ethogram" / "bentoml"))
        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

    def tell(self) -> None:
        """From raw events to a judged segment."""
        from features.simulate.live import live_day

        truth = self.history()
        study = self.studies(truth)
        tag = self.release()
        day = live_day(self.shop, truth, days=LIVE_DAYS, everybody=False, exposures=False)
        (self.folder / "live").mkdir()
        day.table.write_csv(self.folder / "live" / "outcomes.csv")
        with self.service(tag, day) as url:
            self.replay(url, day)
            example = self.answers(url, day)
            self.rest_of(day)
            self.judge(day)
            self.whereabouts(tag, url, example, study)
            if self.keep:
                self.stay(url)
        show(f"\ndone in {time.perf_counter() - self.begin:.0f} s; nothing is left running. Once more: make demo")

    # -- chapters

    def history(self) -> "Truth":
        """Two months of a shop, cleaned and logged."""
        from features.simulate import write_shop

        self.chapter(f"{self.shop.days} days of a shop, {self.shop.users:,} people, with planted truth")
        truth = write_shop(self.shop, self.folder / "raw", format="parquet")
        files = [str(file) for file in sorted((self.folder / "raw" / "events").iterdir())]
        total = self.ask("ingest", *files, told="ingest raw/events/*.parquet")["total"]
        quality = self.ask("quality")
        refused = ", ".join(f"{count:,} {reason}" for reason, count in list(total["quarantined"].items())[:4])
        show(f"  {total['rows']:,} rows: {total['accepted']:,} events of {quality['counts']['persons']:,} persons")
        show(f"  {total['duplicates']:,} duplicates, {sum(total['marked'].values()):,} events of bots")
        show(f"  quarantined with their reasons: {refused}, ...")
        return truth

    def studies(self, truth: "Truth") -> dict[str, Any]:
        """A tuned propensity and a clustering."""
        self.chapter("Studies: Optuna over XGBoost and k-means, logged to MLflow")
        study = self.ask("study", "run", "purchase_7d")
        show(f"{self.figures(study, truth)}\n  the model {study['verdict']}")
        clusters = self.ask("study", "run", "behaviour")
        show(f"  {clusters['verdict']}")
        return study

    def figures(self, study: dict[str, Any], truth: "Truth") -> str:
        """The model between its baselines, the floor and the ceiling that only the simulator knows."""
        from features.instants import parse_instant

        difficulty = truth.difficulty(parse_instant(study["training_set"]["cuts"]["test"][0]))
        rows = [("one rule: who came last (floor)", difficulty.floor, "")]
        for name, figures in study["figures"].items():
            auc = figures["roc_auc"]
            rows.append((name, auc["value"], f"[{auc['low']:.3f}, {auc['high']:.3f}]"))
        rows.append(("the planted chance itself (ceiling)", difficulty.ceiling, ""))
        lines = table(
            [(name, f"{value:.3f}", interval) for name, value, interval in rows], ("purchase_7d", "ROC-AUC", "95 %")
        )
        return "\n".join("  " + line for line in lines.splitlines())

    def release(self) -> str:
        """The bundle and the Bento."""
        self.chapter("Release: one digest over plan, features and models; a Bento around it")
        promotion = self.ask("promote")
        show(f"  bundle {promotion['digest'][:12]} is champion")
        return str(self.ask("bento")["bento"])

    @contextlib.contextmanager
    def service(self, tag: str, day: "LiveDay") -> Iterator[str]:
        """The built Bento, answering; stopped at the end whatever happens."""
        from features.instants import iso

        self.chapter("Service: the Bento takes the next days' events and answers")
        clock = iso(day.end)
        show(f"  $ ETHOGRAM_CLOCK={clock} bentoml serve {tag}")
        with served(tag, log=self.folder / ".ethogram" / "service.log", ETHOGRAM_CLOCK=clock) as caller:
            yield caller.url

    def replay(self, url: str, day: "LiveDay") -> None:
        """The day's events through the door."""
        begin = time.perf_counter()
        with Caller(url) as caller:
            count = caller.send(day.messages(users=REPLAYED))
        seconds = time.perf_counter() - begin
        show(f"  POST /v1/batch: {LIVE_DAYS} days of {REPLAYED:,} people, {count:,} events in {seconds:.1f} s")

    def rest_of(self, day: "LiveDay") -> None:
        """Everybody else's events of these days, as a file: what is judged next needs all outcomes."""
        live = set(day.lines(users=REPLAYED))
        others = [line for line in day.lines() if line not in live]
        if others:
            path = self.folder / "live" / "others.ndjson"
            path.write_text("\n".join(others) + "\n", encoding="utf-8")
            self.ask("ingest", str(path), told="ingest live/others.ndjson")

    def answers(self, url: str, day: "LiveDay") -> dict[str, Any]:
        """The same people are asked about; who is likeliest to buy is the example."""
        begin = time.perf_counter()
        with Caller(url) as caller:
            answers = list(caller.all_segments(day.people.head(REPLAYED)))
        seconds = time.perf_counter() - begin
        each_ms = 1000 * seconds / len(answers)
        show(f"  POST /v1/segments: {len(answers):,} answers, {each_ms:.2f} ms each over one connection")
        example = max(answers, key=lambda answer: answer["scores"]["purchase_7d"]["probability"] or 0)
        show("  " + json.dumps(_short(example), indent=2).replace("\n", "\n  "))
        return example

    def judge(self, day: "LiveDay") -> None:
        """Is it still true, did it help, and what now."""
        self.chapter("Judgement: drift, the A/B test, the loop")
        time.sleep(2)  # one write of the prediction log
        self.tell_of("drift", "run")
        show(f"\n  {day.planted}")
        outcomes = str(self.folder / "live" / "outcomes.csv")
        page = str(self.folder / "reports" / "ab.html")
        columns = "--variant variant --control A --metric converted --metric revenue --user user"
        told = f"ab analyze live/outcomes.csv {columns}"
        self.tell_of("ab", "analyze", outcomes, *columns.split(), "--html", page, told=told)
        self.tell_of("loop", "run", "--once")

    def whereabouts(self, tag: str, url: str, example: dict[str, Any], study: dict[str, Any]) -> None:
        """Where everything is, with lines that work when pasted."""
        self.chapter("Look around")
        body = json.dumps({"user_id": example["user_id"]})
        again = f"cd {self.folder} && ETHOGRAM_CLOCK={example['as_of']} {program('ethogram')} serve"
        place = url if self.keep else "http://127.0.0.1:3000"
        show(f"  segments of a user   curl -s {place}/v1/segments -d '{body}'")
        if not self.keep:
            show(f"    (start it first)   {again}")
        show(
            f"  MLflow's page        cd {self.folder} && {program('mlflow')} ui --backend-store-uri sqlite:///.ethogram/mlflow.db"
        )
        for page in sorted((self.folder / "reports").rglob("*.html")):
            show(f"  report               {page}")

    def stay(self, url: str) -> None:
        """Service and MLflow's page, until Ctrl-C."""
        port = free_port()
        store = f"sqlite:///{self.folder / '.ethogram' / 'mlflow.db'}"
        options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", store]
        with (self.folder / ".ethogram" / "mlflow.log").open("wb") as log:
            command = [str(program("mlflow")), "ui", *options]
            page = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - our own command
            show(f"\n  service {url}\n  MLflow  http://127.0.0.1:{port}\n  Ctrl-C ends both.")
            try:
                signal.pause()
            except KeyboardInterrupt:
                note("stopping")
            finally:
                stop(page)

    # -- telling

    def chapter(self, title: str) -> None:
        """A heading, with the time it began."""
        show(f"\n== {title}  ({time.perf_counter() - self.begin:.0f} s)")

    def ask(self, *words: str, told: str = "") -> dict[str, Any]:
        """Type a command; its answer as a document."""
        show(f"  $ ethogram {told or ' '.join(words)}")
        return dict(json.loads(_typed(*words, "--json")))

    def tell_of(self, *words: str, told: str = "") -> None:
        """Type a command and show what it prints."""
        show(f"  $ ethogram {told or ' '.join(words)}")
        show("    " + _typed(*words).strip().replace("\n", "\n    "))


def _short(example: dict[str, Any]) -> dict[str, Any]:
    """An answer with those of its rules alone that the user is in."""
    rules = {name: rule for name, rule in example.get("rules", {}).items() if rule["in"]}
    return {**example, "rules": rules} if "rules" in example else example


def _typed(*words: str) -> str:
    """What the command prints; a verdict's exit code is part of the story, a user's mistake is not."""
    from console.cli import app

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(typer.Exit):
        app(list(words), standalone_mode=False)
    return printed.getvalue()
