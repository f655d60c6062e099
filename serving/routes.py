"""Routes: what the door answers itself, one function each."""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from features.errors import StoreError
from features.instants import iso
from serving import collection, metrics
from serving.gate import admit
from serving.intake import Delivery, IntakeFull, Receipt
from serving.problems import Problem
from serving.questions import ASKED, BATCH_ASKED, ask, ask_batch, explain, look_up, score
from serving.request import ENCODER, JSON, Reply, Request, Route, revalidated
from serving.runtime import Runtime
from serving.showing import ASKED as ASSIGN_ASKED
from serving.showing import SHOWN, assigned, exposed

LOGGER = logging.getLogger("ethogram.routes")
CONTRACT = Path(__file__).with_name("openapi.yaml")


def route_of(request: Request) -> Route:
    """The route that answers a request, or a Problem: 404 for the path, 405 for the method, to whom is let in."""
    methods = ROUTES.get(request.path, {})
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is not None:
        return route
    admit(request, None)
    if not methods:
        raise Problem(404, f"there is nothing at this path. Hint: {', '.join(sorted(ROUTES))}.")
    allowed = ", ".join(sorted(methods))
    raise Problem(405, f"this path takes {allowed}.", {"allow": allowed})


# -- what is in service


def model(request: Request) -> Reply:
    """GET /v1/model: what is in service."""
    release = request.runtime.release()
    bundle = release.bundle
    previous, challenger = request.runtime.releases.previous, request.runtime.challengers.current
    studies = {
        study: {"kind": model.kind, "digest": model.digest, "threshold": model.threshold, "names": model.names}
        for study, model in bundle.models.items()
    }
    told = {
        "name": bundle.name,
        "version": bundle.version,
        "digest": bundle.digest,
        "since": iso(release.since),
        "features": {"fingerprint": bundle.features.fingerprint, "count": len(bundle.features.names)},
        "schema": bundle.schema.fingerprint,
        "studies": studies,
        "previous": previous.bundle.digest if previous else None,
        "challenger": challenger.bundle.digest if challenger else None,
        "fault": request.runtime.releases.fault or request.runtime.releases.unpublished or None,
    }
    return revalidated(request, Reply(ENCODER.encode(told), headers={"x-model-version": str(bundle.version)}))


def catalogue(request: Request) -> Reply:
    """GET /v1/catalogue: the segments that answers may name."""
    release = request.runtime.release()
    bundle, sizes = release.bundle, release.scorer.rules.sizes
    declared = [each for each in (bundle.segments.segments if bundle.segments else ()) if each.status == "active"]
    told: list[dict[str, object]] = []
    for each in declared:
        about = {"segment": each.name, "kind": "rule", "class": each.kind, "version": each.version}
        told.append({**about, "description": each.description, **sizes.get(each.name, {})})
    for study, model in sorted(bundle.models.items()):
        if model.kind != "propensity":
            told += [{"segment": f"{study}:{name}", "study": study, "kind": model.kind} for name in model.names]
        else:
            told.append({"segment": study, "study": study, "kind": model.kind, "threshold": model.threshold})
    body = ENCODER.encode({"bundle": bundle.digest, "segments": told})
    return revalidated(request, Reply(body, headers={"x-model-version": str(bundle.version)}))


@cache
def contract(form: str) -> bytes:
    """The API's description, OpenAPI 3.1, as `yaml` or `json`."""
    if form == "yaml":
        return CONTRACT.read_bytes()
    from ruamel.yaml import YAML

    return ENCODER.encode(YAML(typ="safe", pure=True).load(CONTRACT.read_text(encoding="utf-8")))


def describe(request: Request) -> Reply:
    """GET /openapi.yaml and /openapi.json."""
    form = request.path.rpartition(".")[2]
    return revalidated(request, Reply(contract(form), content_type=JSON if form == "json" else b"application/yaml"))


# -- events


async def collect(request: Request) -> Reply:
    """POST /v1/{track,identify,page,screen,group,alias,batch}: 200 once journal and state hold the events."""
    document = collection.document_of(request.body)
    messages = collection.messages_of(document, request.path.rpartition("/")[2])
    runtime = request.runtime
    release = runtime.release()
    strict = request.flag("strict", default=False)
    try:
        receipt = await _deliver(runtime, release.prepare, messages) if messages else Receipt(0)
    except (StoreError, sqlite3.Error, OSError) as error:
        LOGGER.error("events cannot be kept: %s", error)
        raise Problem(503, "the events cannot be kept now.", {"retry-after": "1"}) from None
    runtime.metrics.events.labels("accepted").inc(receipt.accepted)
    runtime.metrics.events.labels("refused").inc(len(receipt.refused))
    if strict and receipt.refused:
        failed = [collection.failure(each) for each in receipt.refused]
        detail = f"{len(failed)} of {len(messages)} messages cannot be used; the others are accepted."
        raise Problem(422, detail, members={"failed_records": failed, "accepted": receipt.accepted})
    return Reply(b'{"success":true}')


async def _deliver(runtime: Runtime, prepare: collection.Preparation, messages: list[Any]) -> Receipt:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Receipt] = loop.create_future()

    def settle(result: Receipt | Exception) -> None:
        if future.cancelled():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def done(result: Receipt | Exception) -> None:
        loop.call_soon_threadsafe(settle, result)

    try:
        runtime.intake.submit(Delivery(messages, runtime.now(), done, prepare))
    except IntakeFull:
        raise Problem(503, "more events wait than can be written.", {"retry-after": "1"}) from None
    return await future


# -- operations


def live(_: Request) -> Reply:
    """GET /livez."""
    return Reply(b"ok\n", content_type=b"text/plain")


def ready(request: Request) -> Reply:
    """GET /readyz: 200 while a bundle answers and the process is not being stopped."""
    runtime = request.runtime
    if runtime.draining or runtime.releases.current is None:
        raise Problem(503, "stopping" if runtime.draining else "not ready", {"retry-after": "1"})
    return Reply(b"ok\n", content_type=b"text/plain")


def exposition(request: Request) -> Reply:
    """GET /metrics."""
    return Reply(request.runtime.metrics.text(), content_type=metrics.CONTENT_TYPE.encode())


def _routes() -> dict[str, dict[str, Route]]:
    found = {
        "/v1/segments": {
            "POST": Route("/v1/segments", ask, ASKED, own=True),
            "GET": Route("/v1/segments", look_up, own=True),
        },
        "/v1/segments:batch": {"POST": Route("/v1/segments:batch", ask_batch, BATCH_ASKED)},
        "/v1/explain": {"POST": Route("/v1/explain", explain, ASKED, own=True)},
        "/v1/score": {"POST": Route("/v1/score", score, collection.BATCH_BYTES)},
        "/v1/assign": {"POST": Route("/v1/assign", assigned, ASSIGN_ASKED, own=True)},
        "/v1/exposures": {"POST": Route("/v1/exposures", exposed, SHOWN, scope="write", own=True)},
        "/v1/model": {"GET": Route("/v1/model", model)},
        "/v1/catalogue": {"GET": Route("/v1/catalogue", catalogue)},
        "/livez": {"GET": Route("/livez", live, open=True)},
        "/readyz": {"GET": Route("/readyz", ready, open=True)},
        "/openapi.yaml": {"GET": Route("/openapi.yaml", describe)},
        "/openapi.json": {"GET": Route("/openapi.json", describe)},
        "/metrics": {"GET": Route("/metrics", exposition, scope="admin")},
    }
    for kind in collection.KINDS:
        path = f"/v1/{kind}"
        found[path] = {"POST": Route(path, collect, collection.BATCH_BYTES, scope="write", written=True)}
    return found


ROUTES: Mapping[str, Mapping[str, Route]] = _routes()
