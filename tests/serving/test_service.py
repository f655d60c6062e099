"""The composition: BentoML around the door, in a process of its own, on a real port."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx
import kubernetes_validate
import pytest
import yaml
from starlette.testclient import TestClient

from features.project import Project
from serving import service
from serving.door import PASSED_BODY
from serving.draining import let_nobody_new, waiting
from serving.packing import warm_up
from serving.runtime import Runtime
from serving.settings import VARIABLES
from training.bundle import publish

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("mlflow", "optuna", "evidently", "pandas", "xgboost", "sklearn", "matplotlib")


def environment(tmp_path, **more):
    """This process's environment with everything of ours under `tmp_path`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ETHOGRAM_")}
    places = {"BENTOML_HOME": str(tmp_path / "bentoml"), "ETHOGRAM_HOME": str(tmp_path / "home")}
    return {**ours, **places, "ETHOGRAM_DRAIN_S": "0.3", "PYTHONPATH": str(ROOT), **more}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command, port, tmp_path, **more):
    """A server process, ready; stopped by SIGTERM at the end: (http client, process)."""
    (tmp_path / "bentoml").mkdir(exist_ok=True)
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path, **more), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            wait_ready(http, process, tmp_path)
            yield http, process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "server.log").read_text()


def wait_ready(http, process, tmp_path, patience_s=240):
    """Until /readyz says so; the first start on a machine compiles."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end and process.poll() is None:
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError((tmp_path / "server.log").read_text())


def talk(http, bundle):
    """The conversation that every way of serving must answer alike; what it said without what differs by time."""
    event = {"userId": "ann", "event": "Order Completed", "properties": {"revenue": 12.5}}
    assert http.post("/v1/track", json=event).json() == {"success": True}
    told = http.post("/v1/segments", json={"user_id": "ann"}).json()
    assert (told["source"], told["bundle"]["digest"]) == ("live", bundle.digest)
    cold = http.get("/v1/segments?user_id=nobody").json()
    problem = http.post("/v1/segments", json={})
    assert (problem.status_code, problem.headers["content-type"]) == (400, "application/problem+json")
    return told["segments"], sorted(told), cold["reason"], problem.json(), http.get("/v1/model").json()["studies"]


def test_the_composed_service_carries_no_weight():
    """In a fresh process: no training or report library, and of BentoML no timer, tracing, access log or metrics."""
    code = (
        "import json, sys, serving.service as s, console.answers;"
        "stack = [each.cls.__name__ for each in s.application().app.user_middleware];"
        f"print(json.dumps([sorted(set({HEAVY!r}) & set(sys.modules)), stack]))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy, stack = json.loads(told.stdout)
    assert heavy == []
    assert stack == ["ContextMiddleware"]


FORM = {"content-type": "multipart/form-data; boundary=x"}
PICKLE = {"content-type": "application/vnd.bentoml+pickle"}
TYPED = [
    ("POST", "/bentoml/segments", b"{", {}, 400),
    ("POST", "/bentoml/segments", b'{"user_id": 5}', {}, 400),
    ("POST", "/bentoml/segments", b'{"user_id": " "}', {}, 400),
    ("POST", "/bentoml/segments", b"[" * 100_000, {}, 400),
    ("POST", "/bentoml/segments", b"\xff", {}, 400),
    ("POST", "/bentoml/segments", b"no form", FORM, 415),
    ("POST", "/bentoml/segments", b"no pickle", PICKLE, 415),
    ("POST", "/bentoml/segments", b" " * (PASSED_BODY + 1), {}, 413),
    ("GET", "/bentoml/segments", b"", {}, 405),
    ("GET", "/bentoml/nothing", b"", {}, 404),
    ("GET", "/docs.json", b"", {}, 200),
    ("GET", "/schema.json", b"", {}, 200),
    ("GET", "/static_content/nothing", b"", {}, 404),
]


def test_bentoml_s_own_paths_are_behind_the_door_and_a_caller_s_fault_leaves_no_traceback(
    published, monkeypatch, caplog
):
    made = Runtime(replace(published, api_key="k"))
    monkeypatch.setattr(service, "runtime", lambda: made)
    with TestClient(service.application(), raise_server_exceptions=False) as http:
        while http.get("/readyz").status_code != 200:
            time.sleep(0.05)
        for method, path, body, headers, status in TYPED:
            asked = http.request(method, path, content=body, headers=headers)
            assert (asked.status_code, asked.headers["content-type"]) == (401, "application/problem+json"), path
            known = {**headers, "authorization": "Bearer k"}
            asked = http.request(method, path, content=body, headers=known)
            assert asked.status_code == status, (path, body[:20], asked.text)
            if status >= 400:
                assert asked.json()["status"] == status
        told = http.post("/bentoml/segments", json={"user_id": "ann"}, headers={"authorization": "Bearer k"})
        assert told.json()["source"] == "default"
        assert [each for each in caplog.records if each.exc_info] == []
        monkeypatch.setattr(service, "answer", lambda *_: 1 / 0)
        told = http.post("/bentoml/segments", json={"user_id": "ann"}, headers={"authorization": "Bearer k"})
        assert told.status_code == 500
        assert [each.exc_info[0] for each in caplog.records if each.exc_info] == [ZeroDivisionError]


@pytest.mark.integration
def test_ethogram_serve_and_the_built_bento_answer_alike(bundle, tmp_path):
    """One conversation with both; then BentoML's own client, what the Bento holds, and what is left behind."""
    home, port = tmp_path / "one" / "home", free_port()
    home.mkdir(parents=True)
    publish(bundle.path, home / "bundles")
    command = [sys.executable, "-m", "console.cli", "serve", "--port", str(port), "--json"]
    with running(command, port, tmp_path / "one") as (http, _):
        wanted = talk(http, bundle)

    two = tmp_path / "two"
    (two / "bentoml").mkdir(parents=True)
    build = [sys.executable, "-m", "console.cli", "bento", "--bundle", str(bundle.path), "--json"]
    told = subprocess.run(build, env=environment(two), cwd=two, capture_output=True, text=True, check=True)
    made = json.loads(told.stdout)
    assert made["model"] == f"ethogram-bundle:{bundle.digest[:32]}"
    check_contents(Path(made["path"]), bundle)
    port = free_port()
    with running(
        [str(Path(sys.executable).parent / "bentoml"), "serve", made["bento"], "--port", str(port)], port, two
    ) as (
        http,
        _,
    ):
        assert talk(http, bundle) == wanted
        check_client(port)
        assert http.get("/schema.json").status_code == 200
        assert http.get("/docs").status_code == 404
    left = two / "home"
    assert list(left.glob("log/parts/journal-*"))
    assert list(left.glob("predictions/*/*.parquet"))


def check_client(port):
    """BentoML's client talks to the typed endpoint, and is told about its mistakes."""
    import bentoml
    from bentoml.exceptions import InvalidArgument

    with bentoml.SyncHTTPClient(f"http://127.0.0.1:{port}") as client:
        assert client.segments(user_id="ann")["source"] == "live"
        with pytest.raises(InvalidArgument, match="no user is named"):
            client.segments(user_id=" ")


def pins(path):
    """The `name==version` of a requirements file, without the markers."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.partition(";")[0].strip() for line in lines if "==" in line and not line.startswith("#")}


def check_contents(path, bundle):
    """The three packages the service needs, the lock's packages, the bundle; nothing else."""
    source = path / "src"
    assert {each.name for each in source.iterdir()} == {"features", "training", "serving", "bentofile.yaml"}
    assert not (source / "features" / "simulate").exists()
    assert {each.suffix for each in source.rglob("*") if each.is_file()} <= {".py", ".yaml"}
    locked = pins(ROOT / "requirements" / "serving.lock")
    assert len(locked) > 40
    assert pins(path / "env" / "python" / "requirements.txt") == locked
    check_container(path / "env" / "docker" / "Dockerfile")
    about = yaml.safe_load((path / "bento.yaml").read_text(encoding="utf-8"))
    assert [each["tag"] for each in about["models"]] == [f"ethogram-bundle:{bundle.digest[:32]}"]


THEIRS = ("DL3008", "DL3009", "DL3013", "DL3042", "DL3046", "DL3066", "SC3009", "SC3020")
"""Rules of hadolint that the part of BentoML's own breaks; ours breaks none."""


def check_container(path):
    """The container file: compiled at build, alive by its own word, not as root at the end, nothing from addresses."""
    ignored = [word for rule in THEIRS for word in ("--ignore", rule)]
    read = subprocess.run([Path(sys.executable).parent / "hadolint", *ignored, path], capture_output=True, text=True)
    assert read.returncode == 0, read.stdout + read.stderr
    text = path.read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert lines[0].startswith("FROM python:3.11")
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER bentoml"
    for wanted in (
        "NUMBA_CACHE_DIR=",
        "python -m serving.packing",
        "HEALTHCHECK",
        "/livez",
        "VOLUME /var/lib/ethogram",
    ):
        assert wanted in text, wanted
    assert not [line for line in lines if line.startswith("ADD ") or "curl " in line or ":latest" in line]
    assert lines.index("USER bentoml") < len(lines) - 2
    assert lines[-1].startswith("ENTRYPOINT")


def test_the_manifests_fit_the_schema_of_kubernetes_and_name_settings_that_there_are(tmp_path):
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8")))
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    services = next(each for each in documents if each["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    container, follower = services["containers"]
    given = {each["name"]: each.get("value") for each in container["env"]}
    assert set(given) <= set(VARIABLES)
    assert float(given["ETHOGRAM_DRAIN_S"]) < services["terminationGracePeriodSeconds"] - 30
    assert container["volumeMounts"][0]["mountPath"] == "/var/lib/ethogram"
    assert {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")} == {
        "/livez",
        "/readyz",
    }
    check_follower(next(each for each in documents if each["kind"] == "ConfigMap")["data"]["ethogram.yaml"], tmp_path)
    home, project = follower["volumeMounts"]
    assert home == container["volumeMounts"][0]
    assert (project["mountPath"], services["volumes"][0]["configMap"]["name"]) == ("/project", "ethogram")
    assert [each["name"] for each in follower["env"]] == ["MLFLOW_TRACKING_URI"]


def check_follower(settings, folder):
    """The file is a project whose bundles go where the service in its container looks for them."""
    (folder / "ethogram.yaml").write_text(settings, encoding="utf-8")
    assert Project.find(folder).path("bundles") == Path("/var/lib/ethogram/bundles")


def test_the_follower_s_image_holds_what_it_imports_and_looks_where_the_manifests_put_the_project(tmp_path):
    file = ROOT / "deploy" / "follower.Containerfile"
    read = subprocess.run([Path(sys.executable).parent / "hadolint", file], capture_output=True, text=True)
    assert read.returncode == 0, read.stdout + read.stderr
    text = file.read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["python", "-m", "experiments.follow", "/project"]' in text
    for name in re.findall(r"^COPY (\w+) /opt/ethogram/\1$", text, re.MULTILINE):
        (tmp_path / name).symlink_to(ROOT / name)
    ours = "features", "training", "serving", "experiments", "console"
    code = f"import sys, experiments.follow as f; print(*(sys.modules[n].__file__ for n in {ours} if n in sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [Path(each).parent.parent for each in told.stdout.split()] == [tmp_path] * 4


def test_the_compose_file_names_settings_that_there_are_and_a_redis_that_keeps_everything(tmp_path):
    whole = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    told = whole["services"]
    check_follower(whole["configs"]["project"]["content"].replace("${ETHOGRAM_NAME:-shop}", "shop"), tmp_path)
    assert told["follower"]["configs"] == [{"source": "project", "target": "/project/ethogram.yaml"}]
    assert told["follower"]["volumes"] == told["ethogram"]["volumes"]
    assert (ROOT / told["follower"]["build"]["dockerfile"]).exists()
    assert set(told["ethogram"]["environment"]) <= set(VARIABLES)
    assert "noeviction" in told["redis"]["command"]
    drain = float(told["ethogram"]["environment"]["ETHOGRAM_DRAIN_S"])
    assert drain < int(told["ethogram"]["stop_grace_period"].removesuffix("s")) - 30
    assert told["ethogram"]["volumes"] == ["ethogram:/var/lib/ethogram"]
    assert told["ethogram"]["ports"] == ["127.0.0.1:3000:3000"]


def test_what_an_image_compiles_is_what_the_packed_bundle_needs(bundle, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "models" / "ethogram-bundle" / "one" / "bundle")
    assert warm_up(tmp_path / "models") == 1
    assert warm_up(tmp_path / "nothing") == 0


@pytest.mark.integration
def test_sigterm_says_not_ready_first_and_then_finishes(bundle, tmp_path):
    home, port = tmp_path / "home", free_port()
    publish(bundle.path, home / "bundles")
    command = [sys.executable, "-m", "console.cli", "serve", "--port", str(port)]
    with running(command, port, tmp_path, ETHOGRAM_DRAIN_S="1.5") as (http, process):
        talk(http, bundle)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert http.get("/readyz").status_code == 503
        assert http.post("/v1/segments", json={"user_id": "ann"}).status_code == 200
        assert process.wait(30) == 0
    assert list(home.glob("log/parts/journal-*"))


@pytest.mark.integration
def test_bentoml_s_server_speaks_and_ends_as_ours_does(bundle, tmp_path):
    """No HTTP is a problem, headers that do not come end; on SIGTERM whoever could connect is answered."""
    port = free_port()
    publish(bundle.path, tmp_path / "home" / "bundles")
    command = [str(Path(sys.executable).parent / "bentoml"), "serve", "serving.service:Ethogram", "--port", str(port)]
    with running(command, port, tmp_path) as (_, process), ThreadPoolExecutor(16) as callers:
        assert b"application/problem+json" in said(port, b"what is this\r\n\r\n")
        assert said(port, b"GET /livez HTTP/1.1\r\nhost: x\r\n") == b""
        told = [callers.submit(answered_until_refused, port) for _ in range(16)]
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert sum(each.result(60) for each in told) > 100
        assert process.wait(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_at_the_end_who_has_connected_is_taken_in_and_nobody_else():
    address = ("127.0.0.1", free_port())
    with socket.create_server(address) as listening:
        with socket.create_connection(address):
            assert let_nobody_new(listening)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.2)
            taken = list(waiting(listening))
            assert len(taken) == 1
            taken[0].close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        listening.listen()  # as another worker does
        socket.create_connection(address, timeout=5).close()


def said(port, sent):
    """All that is answered to these bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def answered_until_refused(port):
    """Questions asked one after the other, each at a connection of its own, until nobody listens; how many."""
    for asked in count():
        try:
            got = said(port, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        except ConnectionRefusedError:
            return asked
        assert got.startswith(b"HTTP/1.1 200 ")
    return 0


@pytest.mark.integration
def test_events_survive_a_kill(bundle, tmp_path):
    """200 means kept: the process is killed without warning and a new one knows the event."""
    home, port = tmp_path / "home", free_port()
    publish(bundle.path, home / "bundles")
    command = [sys.executable, "-m", "console.cli", "serve", "--port", str(port)]
    with running(command, port, tmp_path) as (http, process):
        talk(http, bundle)
        process.kill()
        process.wait(10)
        process.returncode = 0  # killed on purpose
    with running(command, port, tmp_path) as (http, _):
        assert http.get("/v1/segments?user_id=ann").json()["source"] == "live"


def test_a_port_in_use_and_an_open_host_are_clear_errors(tmp_path):
    from typer.testing import CliRunner

    from console.cli import app
    from features.errors import EthogramError

    def fails(*words):
        told = CliRunner().invoke(app, ["serve", *words], env={"ETHOGRAM_HOME": str(tmp_path)})
        assert isinstance(told.exception, EthogramError), told.output
        return str(told.exception)

    assert "ETHOGRAM_API_KEY" in fails("--host", "0.0.0.0")  # noqa: S104 - refused is what is tested
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "--port 0" in fails("--port", str(taken.getsockname()[1]))
