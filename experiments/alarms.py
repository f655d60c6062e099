"""Alarms: where a drift verdict is heard: a gauge for Prometheus, a tag in MLflow, and a webhook, if one is named."""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from experiments.drift import DriftReport
from experiments.study import DIGEST
from experiments.tracking import Tracking
from features.errors import AnalysisError
from features.instants import SECOND
from features.project import Project

ADDRESS, SECRET = "ETHOGRAM_DRIFT_WEBHOOK", "ETHOGRAM_WEBHOOK_SECRET"
"""Where an alarm is sent, and what signs it. Without the first nothing leaves the machine."""
SIGNATURE = "X-Ethogram-Signature"
GAUGE = "drift.prom"
TAG = "ethogram.drift"
PATIENCE_S = 10


def sound(project: Project, bundle: str, report: DriftReport, *, at: int) -> tuple[str, ...]:
    """Tell everybody who listens; what could not be told is a sentence, so that the verdict is heard all the same.

    Args:
        project: Whose reports folder and registry.
        bundle: Digest of what was looked at.
        report: The verdict.
        at: The newest answer that was looked at, microseconds UTC.
    """
    said = [f"gauge: {gauge(project.path('reports') / GAUGE, project.name, report, at=at)}"]
    versions = _tagged(project, bundle, report)
    said += [f"tag {TAG} = {report.verdict} of version {', '.join(map(str, versions))}"] if versions else []
    address = os.environ.get(ADDRESS)
    if address and report.alarms:
        document = {"project": project.name, "bundle": bundle, "headline": report.headline, **report.to_dict()}
        document.pop("findings")
        said.append(call(address, document, secret=os.environ.get(SECRET, "")))
    return tuple(said)


def gauge(file: Path, project: str, report: DriftReport, *, at: int) -> Path:
    """Gauges in Prometheus's text format, for the textfile collector of its node exporter; replaced as a whole."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    figures = {
        "drift": ("1 where there is drift or a pipeline fault, else 0.", float(report.alarms)),
        "drift_moved": ("Tests that raise the alarm.", float(len(report.moved))),
        "drift_users": ("Served users that were looked at.", float(report.current.users)),
        "drift_last_answer_seconds": ("Newest answer that was looked at, Unix time.", at / SECOND),
    }
    for name, (meaning, value) in figures.items():
        Gauge(name, meaning, ["project"], namespace="ethogram", registry=registry).labels(project).set(value)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(file), registry)
    return file


def _tagged(project: Project, bundle: str, report: DriftReport) -> list[int]:
    tracking = Tracking(project)
    found = [each.version for each in tracking.versions(project.name) if each.tags.get(DIGEST) == bundle]
    for version in found:
        tracking.tag(project.name, version, {TAG: report.verdict, f"{TAG}.moved": str(len(report.moved))})
    return found


def call(address: str, document: Mapping[str, object], *, secret: str) -> str:
    """POST a document, signed (HMAC-SHA256 over its bytes) where there is a secret; how it went, in a sentence.

    Raises:
        AnalysisError: the address is no HTTP address.
    """
    if not address.startswith(("http://", "https://")):
        raise AnalysisError(f"{ADDRESS} is an address that starts with http:// or https://.")
    body = json.dumps(document).encode()
    headers = {"Content-Type": "application/json"}
    if secret:
        headers[SIGNATURE] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    try:
        with urlopen(Request(address, body, headers), timeout=PATIENCE_S) as reply:  # noqa: S310 - checked above
            return f"webhook: told, {reply.status}"
    except (URLError, OSError, ValueError) as problem:
        return f"webhook: not told: {getattr(problem, 'reason', problem)}"
