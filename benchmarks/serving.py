"""One question over HTTP against a bare ASGI echo on the same server, in the same run: processor time a request.

`python -m benchmarks.serving [--small] [--json]`. Both run in processes of their own on uvicorn with uvloop and
httptools, without an access log; what is compared is what the kernel counted for them (rusage), so that the client and
other work on the machine do not matter. The echo runs all the time and is asked by turns with each of the others: what
is printed is the median over the rounds, as a machine's speed changes within a minute. Users are drawn from a store,
each with 200 events; every answer is computed. Beside them the same under `bentoml serve`, with a Redis, and what
others would put the same trees behind: BentoML's typed endpoint as it is installed, and `mlflow models serve`, both of
which are sent the features.

MLflow is asked in two ways. Its guides have a table's model saved with a signature and asked by `dataframe_split`, the
columns by their names: that is what the target is judged by. Each column is then cast and checked by itself, in pandas;
types, and whether anything is null, make no difference. A bare array to a model without names costs a twentieth of
that; nothing notices when its columns stand in another order, and it is printed beside.
"""

import json
import random
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import latency, report, shop
from benchmarks.report import Figure, at_least, at_most, note
from benchmarks.servers import Server, ask, redis_of, request, running, spent
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.events.plan import Codes
from serving.store import LiveSchema, SqliteStore
from training.assigner import Centroids
from training.bundle import Bundle, publish
from training.model import Model
from training.steps import fit
from training.trees import Forest

N_EVENTS, N_TREES, ROUNDS = 200, 300, 20
ROOT = Path(__file__).parent.parent
BODY = b'{"user_id": "user-%08d"}'


def main() -> int:
    """Measure and print."""
    options = report.arguments(__doc__ or "")
    n_users, n_requests = (2_000, 4_000) if options.small else (100_000, 30_000)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        features, size = prepared(home, n_users)
        note(f"{n_users:,} users of about {N_EVENTS} events, {len(features)} features, {N_TREES} trees, 8 clusters")
        bare, questions = asked("/", n_requests, n_users), asked("/v1/segments", n_requests, n_users)
        with running("benchmarks.servers:echo", home, size) as echo:
            with running("serving.service:application", home, size) as server:
                ours = compared(echo, bare, server, questions)
                batch = batched(server, n_users, n_requests // 400)
            tails = latency.figures(home, size, questions, ours.cpu_s, echo, bare, small=options.small)
            with running("bentoml:serving.service:Ethogram", home, size) as server:
                mounted = compared(echo, bare, server, questions)
            with (
                redis_of(home, features, n_users) as url,
                running("serving.service:application", home, size, url) as server,
            ):
                remote = compared(echo, bare, server, questions)
            rows = vectors(home, features)
            with running("mlflow:named", home, size) as server:
                split = [{"dataframe_split": {"columns": features.names, "data": [row]}} for row in rows]
                named = compared(echo, bare, server, brought("/invocations", split, n_requests // 50))
            with running("mlflow:bare", home, size) as server:
                arrays = [{"instances": [row]} for row in rows]
                unnamed = compared(echo, bare, server, brought("/invocations", arrays, n_requests // 20))
            with running("bentoml:benchmarks.typed:Typed", home, size) as server:
                typed = compared(
                    echo, bare, server, brought("/score", [{"rows": [row]} for row in rows], len(bare) // 10)
                )
    return report.report(
        [
            Figure("bare echo, processor time a request", ours.cpu_s * ours.share * 1e6, "us"),
            Figure("an answer, SQLite, processor time a request", ours.cpu_s * 1e6, "us"),
            at_least("share of the echo", ours.share, "", 0.17),
            at_least("the same with Redis", remote.share, "", 0.11),
            at_least("the same under `bentoml serve`", mounted.share, "", 0.12),
            at_least("by BentoML's typed endpoint, which is sent the features", ours.share / typed.share, "times", 4),
            at_least("by `mlflow models serve`, which is sent the features", ours.share / named.share, "times", 20),
            Figure("by the same without a signature, which is sent a bare array", ours.share / unnamed.share, "times"),
            at_most("p50 at one connection, by the echo's", ours.slower, "times", 4),
            at_least("batch of 1,000: users a second of processor time", 1 / batch, "users/s", 15_000),
            *tails,
        ],
        as_json=options.json,
    )


def prepared(home: Path, n_users: int) -> tuple[FeatureSet, int]:
    """A published bundle and a filled store below `home`; the features, and the bytes of a typical answer."""
    codes = Codes.of(shop.PLAN)
    features = FeatureSet.from_dict({"features": shop.WIDE}, shop.PLAN, codes)
    frame = shop.events(N_EVENTS * min(n_users, 2_000), min(n_users, 2_000))
    histories = shop.histories(frame, features)
    matrix = features.compute(histories, shop.AT)
    (home / "plan.yaml").write_text(shop.PLAN.model_dump_json(exclude_defaults=True), encoding="utf-8")
    codes.write(home / "plan.lock")
    models = {study: home / study for study in ("purchase_7d", "behaviour")}
    _fit(models, matrix)
    bundle = Bundle.write(
        home / "bundle", name="shop", version="1", features=features, models=models,
        plan=home / "plan.yaml", lock=home / "plan.lock",
    )  # fmt: skip
    publish(bundle.path, home / "bundles")
    with SqliteStore(home / "state.db") as store, store.writing() as db:
        live = LiveSchema(store.declare(db, features.schema), features.schema, filled=True)
        for user in range(n_users):
            store.put(db, live, f"user-{user:08d}", histories.state(user % len(histories)), None)
        db.execute("UPDATE schemas SET filled = 1")
    return features, 700


def _fit(models: dict[str, Path], matrix: FeatureMatrix) -> None:
    import mlflow.xgboost
    import xgboost as xgb
    from mlflow.models import infer_signature

    x = matrix.values.astype(np.float32)
    y = (np.random.default_rng(1).random(len(x)) < 0.2).astype(int)
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 6, "seed": 1}, xgb.DMatrix(x, label=y), N_TREES)
    trees = booster.save_raw("json").decode()
    fingerprint = matrix.fingerprint
    propensity = Model("purchase_7d", "propensity", fingerprint, fit(matrix, []), Forest.from_json(trees))
    preparation = fit(matrix, ["impute", "log", "standardise"], names=matrix.names[:40])
    centres = Centroids(preparation.transform(matrix)[:8])
    clusters = Model(
        "behaviour", "clusters", fingerprint, preparation, centres, names=tuple("abcdefgh"), ids=tuple(range(1, 9))
    )
    home = models["purchase_7d"].parent
    booster.save_model(home / "booster.json")
    mlflow.xgboost.save_model(booster, home / "bare", pip_requirements=["mlflow", "xgboost"])
    booster.feature_names = list(matrix.names)
    signature = infer_signature(matrix.to_pandas()[list(matrix.names)], np.zeros(1))
    mlflow.xgboost.save_model(booster, home / "named", signature=signature, pip_requirements=["mlflow", "xgboost"])
    propensity.save(models["purchase_7d"], trees=trees)
    clusters.save(models["behaviour"])
    propensity.write_golden(models["purchase_7d"], matrix.values[:3])
    clusters.write_golden(models["behaviour"], matrix.values[:3, :40])


def vectors(home: Path, features: FeatureSet) -> list[list[float | None]]:
    """The features of some users, null where there is none."""
    with SqliteStore(home / "state.db") as store:
        states = store.read(features.schema, [f"user-{user:08d}" for user in range(500)])
    histories = Histories.from_states(
        features.schema, [each.user for each in states], [each.records for each in states]
    )
    values = features.compute(histories, shop.AT).values.tolist()
    return [[None if value != value else value for value in row] for row in values]


def brought(path: str, documents: Sequence[object], n: int) -> list[bytes]:
    """Questions that bring the features along."""
    made = [request(path, json.dumps(each).encode()) for each in documents[:n]]
    return [made[place % len(made)] for place in range(n)]


def asked(path: str, n: int, n_users: int) -> list[bytes]:
    """Questions about users drawn from the store."""
    draw = random.Random(1)
    return [request(path, BODY % draw.randrange(n_users)) for _ in range(n)]


class Cost(NamedTuple):
    """What a question costs a server, medians over the rounds.

    Attributes:
        cpu_s: Processor seconds a request.
        share: The echo's by these, of the same round.
        slower: Its median time by the echo's, of the same round.
    """

    cpu_s: float
    share: float
    slower: float


def compared(echo: Server, bare: list[bytes], server: Server, questions: list[bytes]) -> Cost:
    """A server's cost by turns with the echo's."""
    rounds = []
    measured(server, questions[: len(questions) // 10])
    for place in range(ROUNDS):
        (base, base_p50), (cost, p50) = measured(echo, bare[place::ROUNDS]), measured(server, questions[place::ROUNDS])
        rounds.append((cost, base / cost, p50 / base_p50))
    return Cost(*np.median(rounds, axis=0).tolist())


def measured(server: Server, questions: list[bytes]) -> tuple[float, float]:
    """(processor seconds a request of the server, median seconds a request at one connection)."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken, before = np.empty(len(questions)), spent(server.pid)
        for place, each in enumerate(questions):
            started = time.perf_counter()
            ask(connection, each)
            taken[place] = time.perf_counter() - started
        return (spent(server.pid) - before) / len(questions), float(np.median(taken))


def batched(server: Server, n_users: int, n_batches: int) -> float:
    """Processor seconds a user of the batch endpoint."""
    draw = random.Random(2)
    connection = socket.create_connection(("127.0.0.1", server.port))
    before, n_batches = spent(server.pid), max(3, n_batches)
    for _ in range(n_batches):
        users = [f"user-{draw.randrange(n_users):08d}" for _ in range(1_000)]
        told = json.loads(ask(connection, request("/v1/segments:batch", json.dumps({"users": users}).encode())))
        if any(each["source"] != "live" for each in told["answers"]):
            raise RuntimeError("an answer of the batch is not live")
    return (spent(server.pid) - before) / n_batches / 1_000


if __name__ == "__main__":
    raise SystemExit(main())
