"""Service: the composition root, and the only module that knows BentoML."""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # read when bentoml is imported

import bentoml
from bentoml.exceptions import BentoMLException, InvalidArgument, NotFound, ServiceUnavailable
from pydantic import ValidationError

from serving.door import Door
from serving.packing import FOLDER
from serving.problems import Problem
from serving.questions import answer, named
from serving.runtime import Runtime
from serving.settings import Settings

BUNDLE = "bundle"
"""The alias under which bentofile.yaml names the bundle in BentoML's model store."""

PASSES = ("/bentoml/segments", "/schema.json", "/docs.json", "/", "/static_content/", "/assets/")
"""What BentoML itself answers, behind the door's key and limits."""


@lru_cache(maxsize=1)
def runtime() -> Runtime:
    """The parts of this process's service, made when it starts."""
    return Runtime(Settings.from_environment(), packed=packed(), aside=True)


def packed() -> Path | None:
    """The bundle inside the Bento; None outside one."""
    try:
        return Path(bentoml.models.get(BUNDLE).path) / FOLDER
    except NotFound:
        return None


class Composed(bentoml.Service):  # type: ignore[misc] # bentoml's types are not followed
    """A BentoML service whose own timeout and tracing stay out of the way.

    The timeout cannot be configured away: it would leave a timer behind for every request, for a minute. Tracing
    records every request even where nothing reads the records.
    """

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: ANN401 - BentoML's signature
        """The application behind the door, which comes before Starlette's own layers: they cost what an echo does."""
        app = super().to_asgi(is_main=is_main)
        unwanted = ("TimeoutMiddleware", "OpenTelemetryMiddleware")
        app.user_middleware = [each for each in app.user_middleware if each.cls.__name__ not in unwanted]
        logging.getLogger("bentoml._internal.server.http_app").addFilter(is_ours)
        return Door(app, make=runtime, passes=PASSES)


@bentoml.service(
    name="ethogram",
    service_class=Composed,
    workers=1,
    http={"host": "127.0.0.1", "port": 3000},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Ethogram:
    """Which segments is this user in, and how likely are they to act."""

    @bentoml.api(route="/bentoml/segments")  # type: ignore[untyped-decorator]
    async def segments(self, user_id: str, ctx: bentoml.Context) -> dict[str, Any]:
        """The answer of POST /v1/segments, for BentoML's clients."""
        request_id = ctx.request.headers.getlist("x-request-id")[-1]  # the last is the door's
        try:
            document, _ = answer(runtime(), named(user_id), request_id)
        except Problem as problem:
            raise _exception(problem) from None
        return document


def is_ours(record: logging.LogRecord) -> bool:
    """Whether what BentoML logs is a fault of the service; a caller's is answered, and needs no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, BentoMLException):
        return int(error.error_code) >= 500
    return not isinstance(error, ValidationError)


def _exception(problem: Problem) -> BentoMLException:
    kind = InvalidArgument if problem.status == 400 else ServiceUnavailable
    return kind(problem.detail)


def application() -> Any:  # noqa: ANN401 - an ASGI application
    """What `ethogram serve` runs: the same composition that `bentoml serve` makes."""
    return Ethogram.to_asgi()  # type: ignore[attr-defined] # decorated: a Service
