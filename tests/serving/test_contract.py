"""The description of the API and the door that answers are one thing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from serving.routes import ROUTES, contract
from tests.serving.test_service import free_port, running
from training.bundle import publish

KEY = "a-key-of-the-tests"
CONTRACT = json.loads(contract("json"))


def test_every_route_is_described_and_every_description_has_its_route():
    described = {(path, method.upper()) for path, methods in CONTRACT["paths"].items() for method in methods}
    assert described == {(path, method) for path, methods in ROUTES.items() for method in methods}


def test_every_error_is_named_and_every_answer_has_a_shape():
    for path, methods in CONTRACT["paths"].items():
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            assert "default" not in statuses
            assert statuses >= {"500"}
            assert ("401" in statuses) == (operation.get("security") != []), (path, method)
            if method == "post":
                assert statuses >= {"400", "408", "413", "429", "503"}
    objects = list(objects_in(CONTRACT))
    assert len(objects) > 30
    for schema in objects:
        assert "properties" in schema or isinstance(schema.get("additionalProperties"), dict), schema


def objects_in(node):
    """Every schema of an object, wherever it stands."""
    if isinstance(node, dict):
        if node.get("type") == "object" or (isinstance(node.get("type"), list) and "object" in node["type"]):
            yield node
        for each in node.values():
            yield from objects_in(each)
    elif isinstance(node, list):
        for each in node:
            yield from objects_in(each)


def assert_described(name, value):
    """The value is what the document says of this schema."""
    document = {**CONTRACT, "$ref": f"#/components/schemas/{name}"}
    faults = [f"{each.json_path}: {each.message}" for each in Draft202012Validator(document).iter_errors(value)]
    assert not faults


@pytest.mark.parametrize(
    ("examples", "seed"),
    [
        pytest.param(1000, 0, marks=pytest.mark.integration),
        *(pytest.param(5000, seed, marks=pytest.mark.prove) for seed in (1, 2, 3)),
    ],
)
def test_whatever_is_asked_the_service_keeps_its_contract(bundle, tmp_path, examples, seed):
    home, port = tmp_path / "home", free_port()
    publish(bundle.path, home / "bundles")
    (home / "ab.yaml").write_text("tests: {hero: {control: a, arms: {a: {}, b: {}}}}", encoding="utf-8")
    command = [sys.executable, "-m", "console.cli", "serve", "--port", str(port)]
    with running(command, port, tmp_path, ETHOGRAM_API_KEY=KEY):
        check(port, examples, seed, tmp_path)


def check(port, examples, seed, folder):
    """Schemathesis with all its checks; `examples` in all, shared out among the operations."""
    n_operations = sum(len(methods) for methods in CONTRACT["paths"].values())
    (folder / "schemathesis.toml").write_text(
        "[checks]\n"
        'positive_data_acceptance.expected-statuses = ["2xx", "304", "422"]\n'
        'negative_data_rejection.expected-statuses = ["400", "401", "405", "406", "413", "422"]\n',
        encoding="utf-8",
    )
    address = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{address}/openapi.json", "--url", address]
    command += ["--max-examples", str(-(-examples // n_operations)), "--checks", "all", "--no-color"]
    command += ["--seed", str(seed)]
    command += ["--header", f"Authorization: Bearer {KEY}"]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-20_000:] + told.stderr[-2_000:]
