"""Commands about answers: `serve` them, `rebuild` what they read, pack the service as a `bento`."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from console.terminal import APPLICATIONS, OPERATIONS, JsonOption, ProjectOption, Told, answer, answered, note
from features.errors import EthogramError, ProjectError

if TYPE_CHECKING:
    from serving.settings import Settings

FOLLOW_AGAIN_S = 5.0
"""A follower that ended is started again so much later."""


def register(app: typer.Typer) -> None:
    """Add `serve`, `stream`, `rebuild` and `bento`."""
    app.command("serve", rich_help_panel=APPLICATIONS)(serve)
    app.command("stream", rich_help_panel=APPLICATIONS)(stream)
    app.command("rebuild", rich_help_panel=OPERATIONS)(answered(rebuild))
    app.command("bento", rich_help_panel=OPERATIONS)(answered(bento))


def serve(
    *,
    project: ProjectOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine a key is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 3000,
    as_json: JsonOption = False,
) -> None:
    """Take events and answer which segments a user is in, until stopped."""
    if project is not None:
        os.environ["ETHOGRAM_PROJECT"] = str(project)  # where the service, which BentoML makes, looks for it
    settings = settings_of(project)
    _check_door(host, settings)
    listening = _listen(host, port)
    signal.signal(signal.SIGTERM, _leave)  # the server raises the signal again once it has finished
    import uvicorn

    from serving.draining import Server
    from serving.protocol import OPTIONS
    from serving.service import application

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    url = f"http://{host}:{listening.getsockname()[1]}"
    answer({"url": url, "pid": os.getpid()}, f"{url}\n  ready when {url}/readyz answers 200", as_json=as_json)
    with _following(settings), suppress(KeyboardInterrupt):
        Server(uvicorn.Config(application(), **OPTIONS)).run(sockets=[listening])


def stream(
    *,
    kafka: Annotated[str, typer.Option(help="Brokers, HOST:PORT, separated by commas.")],
    topic: Annotated[str, typer.Option(help="Whose messages are events in Segment's shape.")] = "events",
    group: Annotated[str, typer.Option(help="Consumer group.")] = "ethogram",
    option: Annotated[list[str] | None, typer.Option(help="A setting of librdkafka, NAME=VALUE.")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take events from Kafka, as the service takes them from callers, until stopped; then each is committed."""
    from serving.runtime import Runtime
    from serving.stream import consumer_of, options_of, run

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    settings = settings_of(project)
    consumer = consumer_of(kafka, topic, group, options_of(option or []))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    runtime = Runtime(settings)
    runtime.open()
    try:
        taken = run(runtime, consumer, stopped=ended.is_set)
    finally:
        consumer.close()
        runtime.close()
    answer({"messages": taken}, f"{taken:,} messages", as_json=as_json)


@contextmanager
def _following(settings: "Settings") -> Iterator[None]:
    """Beside the service, where there is a project: the process that publishes what its registry calls champion."""
    if settings.project is None:
        yield
        return
    command, ended = (
        [sys.executable, "-m", "experiments.follow", "--child", str(settings.project.root)],
        threading.Event(),
    )

    def follow() -> None:
        while not ended.is_set():
            with subprocess.Popen(command) as process:  # noqa: S603 - our own module
                while process.poll() is None and not ended.wait(0.2):
                    pass
                process.terminate()
            if not ended.wait(FOLLOW_AGAIN_S):
                logging.getLogger("ethogram.follow").error("the follower ended by itself; it is started again")

    thread = threading.Thread(target=follow, name="ethogram-follower", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def rebuild(
    *,
    project: ProjectOption = None,
    state: Annotated[bool, typer.Option("--state", help="Fill the state store from the event log again.")] = False,
) -> Told:
    """Make anew what is derived from the event log; a running service goes on answering meanwhile."""
    if not state:
        raise ProjectError("nothing to rebuild is named. Hint: `ethogram rebuild --state`.")
    settings = settings_of(project)
    from serving.filling import refill

    report = refill(settings, now=settings.clock or time.time_ns() // 1000)
    lines = [f"{each['schema']}: {each['users']:,} users" for each in report]
    return Told({"states": report}, "\n".join([str(settings.state), *lines]))


def bento(
    *,
    project: ProjectOption = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder (default: the published one).")] = None,
) -> Told:
    """Build a Bento, the service with the published bundle inside, for `bentoml serve` and `bentoml containerize`."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from serving.packing import build, pack
    from training.bundle import current

    folder = bundle or current(settings_of(project).bundles)
    if folder is None:
        raise ProjectError("no bundle has been published. Hint: `ethogram promote`.")
    model = pack(folder)
    note(f"packed {model}")
    tag, path = build(Path(__file__).parent.parent)
    return Told({"bento": tag, "model": model, "path": str(path)}, f"{tag}\n  bentoml serve {tag}")


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def settings_of(project: Path | None) -> "Settings":
    """The service's settings; a project that is named comes before the environment's."""
    from serving.settings import Settings

    given = {} if project is None else {"ETHOGRAM_PROJECT": str(project)}
    return Settings.from_environment({**os.environ, **given})


def _check_door(host: str, settings: "Settings") -> None:
    keys = settings.ring()
    keys.all()  # a damaged file is told now
    if not keys.needed and host not in ("127.0.0.1", "::1", "localhost"):
        raise ProjectError(
            f"--host {host} reaches beyond this machine. Hint: `ethogram keys create`, or set ETHOGRAM_API_KEY, first."
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise EthogramError(
            f"cannot listen on {host}:{port}: {error.strerror}. Hint: `--port 0` takes a free one."
        ) from None
    return listening
