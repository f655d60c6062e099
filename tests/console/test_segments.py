"""`ethogram segments`: check, format, schema, on the shop's own file."""

import json
from shutil import copytree

import pytest
from typer.testing import CliRunner

from console.cli import app
from tests.features.segments.test_format import SHOP


@pytest.fixture
def shop(tmp_path):
    copytree(SHOP.parent, tmp_path / "shop")
    return tmp_path / "shop"


def ran(*arguments):
    return CliRunner().invoke(app, ["segments", *arguments])


def test_check_lists_every_segment_with_its_class(shop):
    told = json.loads(ran("check", "-C", str(shop), "--json").stdout)["segments"]
    assert {each["segment"]: each["class"] for each in told}["cart_abandoners"] == "timer"


def test_format_changes_a_file_once_and_says_so(shop):
    path = shop / "segments.yaml"
    path.write_text(path.read_text().replace("{event", "{  event"))
    assert ran("format", "-C", str(shop), "--check").exit_code == 1
    assert "anew" in ran("format", "-C", str(shop)).stdout
    assert ran("format", "-C", str(shop), "--check").exit_code == 0
    assert path.read_text() == SHOP.read_text()


def test_the_schema_is_json():
    assert "$defs" in json.loads(ran("schema").stdout)
