"""Settings come from the environment, in one table that the page shows."""

from pathlib import Path

import pytest

from features.errors import ProjectError
from serving.settings import VARIABLES, Settings

PAGE = Path(__file__).parent.parent.parent / "docs" / "serving.md"


def test_without_a_project_everything_stands_under_one_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"ETHOGRAM_HOME": str(tmp_path / "home")})
    assert settings.state == tmp_path / "home" / "state.db"
    assert settings.bundles == tmp_path / "home" / "bundles"
    again = Settings.from_environment({"ETHOGRAM_HOME": str(tmp_path / "home")})
    assert settings.key == again.key
    assert len(settings.key) == 64


def test_a_project_gives_the_paths_and_a_variable_overrides_one(tmp_path):
    (tmp_path / "ethogram.yaml").write_text("version: 1\nname: shop\nstate: here.db\n", encoding="utf-8")
    given = {"ETHOGRAM_PROJECT": str(tmp_path), "ETHOGRAM_BUNDLES": str(tmp_path / "b"), "ETHOGRAM_KEY": "k"}
    settings = Settings.from_environment(given)
    assert (settings.state, settings.bundles, settings.key) == (tmp_path / "here.db", tmp_path / "b", b"k")


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1e9"])
def test_a_time_that_is_none_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="ETHOGRAM_DRAIN_S"):
        Settings.from_environment({"ETHOGRAM_HOME": str(tmp_path), "ETHOGRAM_DRAIN_S": text})


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("ETHOGRAM_API_KEY", "short", "at least 16 bytes"),
        ("ETHOGRAM_ORIGINS", "*", "names origins such as"),
        ("ETHOGRAM_ORIGINS", "https://a.example, shop", "Got 'shop'"),
        ("ETHOGRAM_FLUSH_S", "0", "from 0.1 to"),
        ("ETHOGRAM_ROLL_S", "0", "from 0.1 to"),
        ("ETHOGRAM_REDIS", "localhost:6379", "redis://host"),
        ("ETHOGRAM_REDIS", "redis://:secret@host:port", "^((?!secret).)*$"),
    ],
)
def test_what_would_protect_nothing_or_never_rest_is_refused(tmp_path, monkeypatch, name, text, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match=told):
        Settings.from_environment({"ETHOGRAM_HOME": str(tmp_path), name: text})


def test_the_page_shows_every_variable_with_its_default():
    page = PAGE.read_text(encoding="utf-8")
    for name, (default, meaning) in VARIABLES.items():
        assert f"| `{name}` | {f'`{default}`' if default else '-'} | {meaning} |" in page
