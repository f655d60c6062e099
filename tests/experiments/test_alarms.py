"""Alarms: a webhook that is a real server, silence by default, gauges that Prometheus can read."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from experiments import alarms
from experiments.drift import DriftReport, Sample
from features.errors import AnalysisError
from features.project import Project

SAMPLE = Sample(500, 500)
DRIFT, CALM = DriftReport(SAMPLE, SAMPLE, (), absent=("x",)), DriftReport(SAMPLE, SAMPLE, ())


@pytest.fixture
def heard() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A server's address and what it was told."""
    told: list[tuple[dict[str, str], bytes]] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "ethogram.yaml").write_text("version: 1\nname: shop\n")
    for name in (alarms.ADDRESS, alarms.SECRET):
        monkeypatch.delenv(name, raising=False)
    return Project.find(tmp_path)


def test_an_alarm_is_posted_and_signed_and_calm_is_not(project, heard, monkeypatch) -> None:
    address, told = heard
    monkeypatch.setenv(alarms.ADDRESS, address)
    monkeypatch.setenv(alarms.SECRET, "a secret")
    alarms.sound(project, "d1", CALM, at=0)
    assert told == []
    assert "webhook: told, 204" in alarms.sound(project, "d1", DRIFT, at=0)
    ((headers, body),) = told
    signature = hmac.new(b"a secret", body, hashlib.sha256).hexdigest()
    assert headers[alarms.SIGNATURE] == f"sha256={signature}"
    document = json.loads(body)
    assert (document["verdict"], document["bundle"], document["absent"]) == ("drift", "d1", ["x"])
    assert b"a secret" not in body


def test_without_an_address_nothing_leaves_the_machine(project, heard, monkeypatch) -> None:
    monkeypatch.setattr(alarms, "urlopen", lambda *_, **__: pytest.fail("something was sent"))
    assert not any("webhook" in line for line in alarms.sound(project, "d1", DRIFT, at=0))


def test_a_listener_that_is_away_or_broken_does_not_swallow_the_verdict(project, heard) -> None:
    address, _ = heard
    assert alarms.call(f"{address}/broken", {}, secret="").startswith("webhook: not told")
    assert alarms.call("http://127.0.0.1:1/", {}, secret="").startswith("webhook: not told")
    with pytest.raises(AnalysisError, match="starts with http"):
        alarms.call("file:///etc/passwd", {}, secret="")


def test_the_gauge_is_prometheus_text(tmp_path: Path) -> None:
    for report, value in ((DRIFT, 1.0), (CALM, 0.0)):
        text = alarms.gauge(tmp_path / "drift.prom", "shop", report, at=7_000_000).read_text()
        found = {each.name: each.samples[0] for each in text_string_to_metric_families(text)}
        assert (found["ethogram_drift"].value, found["ethogram_drift"].labels) == (value, {"project": "shop"})
        assert found["ethogram_drift_last_answer_seconds"].value == 7.0
