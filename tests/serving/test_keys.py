"""Who may ask, for what, and about whom."""

import asyncio
import json
import logging
import time
from dataclasses import replace

import jwt
import pytest
from typer.testing import CliRunner

from console.cli import app
from features.errors import ProjectError
from serving import gate, keys
from serving.collection import BATCH_BYTES
from serving.keys import Keys
from serving.routes import ROUTES
from serving.settings import Settings
from tests.serving import shop

pytestmark = pytest.mark.anyio
SECRET = "a secret of the tests, long enough to sign with, with every algorithm"  # noqa: S105 - of the tests
NEXT = "the next secret of the tests, long enough to sign with as well"
AWAY = ("203.0.113.9", 1)


def token(sub="ann", *, secret=SECRET, algorithm="HS256", aud="ethogram", lives=600, **more):
    now = int(time.time())
    return jwt.encode({"sub": sub, "aud": aud, "iat": now, "exp": now + lives, **more}, secret, algorithm=algorithm)


async def status(http, method, path, shown=None, **more):
    headers = {"authorization": f"Bearer {shown}"} if shown else {}
    return (await http.request(method, path, headers=headers, **more)).status_code


async def test_a_key_opens_what_it_is_for_and_nothing_else(published):
    made = {scope: Keys(published.keys).create("a test", [scope])[0] for scope in keys.SCOPES}
    track = {"json": shop.message("ann")}
    async with shop.serving(published, client=AWAY) as (http, _):
        asked = [
            ("GET", "/v1/model", "read", {}),
            ("POST", "/v1/track", "write", track),
            ("GET", "/metrics", "admin", {}),
        ]
        for method, path, wanted, more in asked:
            for scope, key in made.items():
                allowed = scope in (wanted, "admin")
                assert await status(http, method, path, key, **more) == (200 if allowed else 403), (path, scope)
            assert await status(http, method, path, **more) == 401
            assert await status(http, method, path, made["read"][:-1] + "x", **more) == 401
        body = {**shop.message("ann"), "writeKey": made["write"]}
        assert await status(http, "POST", "/v1/track", json=body) == 200
        nobody = {"authorization": "Basic Og=="}  # a library that was given no key as its user name
        assert (await http.post("/v1/track", json=body, headers=nobody)).status_code == 200


async def test_every_path_is_behind_the_door(published):
    """Only the two that say no more than ok are open."""
    Keys(published.keys).create("somebody", ["read"])
    async with shop.serving(published, client=AWAY) as (http, _):
        for path, methods in ROUTES.items():
            for method in methods:
                wanted = 200 if path in ("/livez", "/readyz") else 401
                assert await status(http, method, path, json={}) == wanted, path


ASKED = [
    ("GET", "/nothing", b"", 404),
    ("GET", "/v1/track", b"", 405),
    ("POST", "/livez", b"", 405),
    ("POST", "/v1/track", b"{", 400),
    ("POST", "/v1/batch", b"[" * 10_000, 400),
    ("POST", "/v1/batch", b'{"writeKey": ["no key"]}', 400),
    ("POST", "/v1/batch", b" " * (BATCH_BYTES + 1), 413),
    ("POST", "/v1/segments", b" " * 70_000, 413),
    ("POST", "/v1/segments", b"{", 400),
    ("GET", "/v1/segments?user_id=a&user_id=b", b"", 400),
]


@pytest.mark.parametrize(("method", "path", "body", "otherwise"), ASKED)
async def test_whoever_is_not_let_in_is_told_nothing_else(published, method, path, body, otherwise):
    """Not which paths there are, nor what is wrong with what was sent."""
    shown, _ = Keys(published.keys).create("somebody", ["read", "write"])
    async with shop.serving(published, client=AWAY) as (http, _):
        assert await status(http, method, path, content=body) == 401
        assert await status(http, method, path, "ek_nobody", content=body) == 401
        assert await status(http, method, path, shown, content=body) == otherwise


async def test_a_body_that_does_not_come_from_nobody_known_is_401(published, monkeypatch):
    monkeypatch.setattr(gate, "BODY_S", 0.05)
    Keys(published.keys).create("somebody", ["write"])

    async def drip():
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async with shop.serving(published, client=AWAY) as (http, _):
        assert await status(http, "POST", "/v1/track", content=drip()) == 401


async def test_without_any_key_what_a_proxy_forwards_is_not_of_this_machine(published):
    async with shop.serving(published) as (http, _):
        assert (await http.get("/v1/model")).status_code == 200
        assert (await http.get("/v1/model", headers={"x-forwarded-for": "203.0.113.9"})).status_code == 401


async def test_a_revoked_key_is_refused_within_a_second_and_nobody_is_let_in_instead(published):
    ring = Keys(published.keys)
    shown, key = ring.create("somebody", ["read"])
    async with shop.serving(published) as (http, _):
        assert await status(http, "GET", "/v1/model", shown) == 200
        ring.revoke(key.id)
        await asyncio.sleep(1)
        assert await status(http, "GET", "/v1/model", shown) == 401
        assert await status(http, "GET", "/v1/model") == 401


async def test_a_key_that_was_rotated_is_let_in_beside_the_new_one_until_its_grace_ends(published, monkeypatch):
    monkeypatch.setattr(keys, "LOOK_S", 0.0)
    ring = Keys(published.keys)
    old, key = ring.create("somebody", ["read"])
    async with shop.serving(published, client=AWAY) as (http, _):
        new, made = ring.rotate(key.id, grace_s=3600)
        assert (made.name, made.scopes, made.until) == (key.name, key.scopes, None)
        for shown in (old, new):
            assert await status(http, "GET", "/v1/model", shown) == 200
            assert await status(http, "POST", "/v1/track", shown, json=shop.message("ann")) == 403
        now = time.time()
        monkeypatch.setattr(keys.time, "time", lambda: now + 3601)
        assert await status(http, "GET", "/v1/model", old) == 401
        assert await status(http, "GET", "/v1/model", new) == 200
        with pytest.raises(ProjectError, match="no key 'nobody'"):
            ring.rotate("nobody", grace_s=0)


@pytest.mark.parametrize("damage", ["gone", "damaged"])
async def test_keys_that_cannot_be_read_open_no_door(published, monkeypatch, damage):
    monkeypatch.setattr(keys, "LOOK_S", -1.0)
    shown, _ = Keys(published.keys).create("shop", ["read"])
    async with shop.serving(published) as (http, _):
        given = {"authorization": f"Bearer {shown}"}
        assert (await http.get("/v1/model", headers=given)).status_code == 200
        published.keys.unlink() if damage == "gone" else published.keys.write_text("[{")
        for _ in range(3):
            assert (await http.get("/v1/model", headers=given)).status_code == 401
            assert (await http.get("/v1/model")).status_code == 401


def test_a_damaged_file_of_keys_is_a_clear_error_at_the_start(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text("[{")
    with pytest.raises(ProjectError, match=r"is damaged: .*Hint: restore it"):
        Keys(file).all()


@pytest.mark.parametrize("shown", ["Basic \u00e9", "Basic !", "Basic 4pyT", "Bearer", "Basic"])
async def test_what_is_no_key_is_no_failure_of_the_service(published, shown):
    Keys(published.keys).create("shop", ["read"])
    async with shop.serving(published) as (http, _):
        assert (await http.get("/v1/model", headers=[("authorization", shown.encode())])).status_code == 401


def test_rotating_again_never_makes_an_old_key_live_longer(tmp_path):
    ring = Keys(tmp_path / "keys.json")
    _, key = ring.create("somebody", ["read"])
    ring.rotate(key.id, grace_s=60)
    (first, _), (first_again, *_) = ring.all(), (ring.rotate(key.id, grace_s=3600), ring.all())[1]
    assert first.until == first_again.until


async def test_a_token_asks_about_its_own_user_and_nobody_else(published):
    settings = replace(published, jwt_keys=(SECRET,))
    async with shop.serving(settings, client=AWAY) as (http, _):
        mine = token("ann")
        assert await status(http, "POST", "/v1/segments", mine, json={"user_id": "ann"}) == 200
        assert await status(http, "GET", "/v1/segments?user_id=ann", mine) == 200
        assert await status(http, "POST", "/v1/explain", mine, json={"user_id": "ann"}) == 200
        for path in ("/v1/segments", "/v1/explain"):
            assert await status(http, "POST", path, mine, json={"user_id": "bob"}) == 403
            assert await status(http, "POST", path, mine, json={"anonymous_id": "bob"}) == 403
        assert await status(http, "GET", "/v1/segments?user_id=bob&scores=false", mine) == 403
        for path, methods in ROUTES.items():
            for method, route in methods.items():
                if not route.own and path not in ("/livez", "/readyz"):
                    assert await status(http, method, path, mine, json={}) == 403, path


@pytest.mark.parametrize(
    "bad",
    [
        {"secret": "another secret of the tests, as long as that"},
        {"aud": "another service"},
        {"lives": -60},
        {"lives": 30 * 86_400},
        {"algorithm": "HS512"},
        {"sub": ""},
        {"algorithm": "none", "secret": ""},
    ],
    ids=str,
)
async def test_a_token_that_is_not_ours_or_lives_too_long_is_refused(published, bad):
    async with shop.serving(replace(published, jwt_keys=(SECRET,))) as (http, _):
        assert await status(http, "POST", "/v1/segments", token(**bad), json={"user_id": bad.get("sub", "ann")}) == 401


@pytest.mark.parametrize("signed", [SECRET, NEXT])
async def test_while_the_secret_is_changed_tokens_of_both_are_let_in_and_then_of_the_new_one_alone(published, signed):
    path, asked = "/v1/segments", {"user_id": "ann"}
    names = {"ETHOGRAM_KEY": "k", "ETHOGRAM_JWT_KEY": NEXT, "ETHOGRAM_JWT_KEY_BEFORE": SECRET}
    during = Settings.from_environment(names).jwt_keys
    async with shop.serving(replace(published, jwt_keys=during), client=AWAY) as (http, _):
        assert await status(http, "POST", path, token("ann", secret=signed), json=asked) == 200
        assert await status(http, "POST", path, token("bob", secret=signed), json=asked) == 403
        third = token("ann", secret=NEXT[::-1])
        assert await status(http, "POST", path, third, json=asked) == 401
    async with shop.serving(replace(published, jwt_keys=(NEXT,)), client=AWAY) as (http, _):
        expected = 200 if signed == NEXT else 401
        assert await status(http, "POST", path, token("ann", secret=signed), json=asked) == expected


async def test_no_secret_is_logged_and_browsers_are_told_to_be_careful(published, caplog):
    settings = replace(published, jwt_keys=(SECRET,), api_key="open sesame")
    with caplog.at_level(logging.DEBUG):
        async with shop.serving(settings, client=AWAY) as (http, _):
            for shown in ("open sesame", token("ann"), "a-wrong-key"):
                reply = await http.get("/v1/model", headers={"authorization": f"Bearer {shown}"})
                assert reply.headers["x-content-type-options"] == "nosniff"
                assert reply.headers["content-security-policy"].startswith("default-src 'none'")
                assert "cache-control" in reply.headers
            await http.post("/v1/track", json={**shop.message("ann"), "writeKey": "a-wrong-key"})
    said = caplog.text
    for secret in ("open sesame", "a-wrong-key", token("ann")[:40], SECRET):
        assert secret not in said


def test_a_secret_that_is_too_short_is_a_clear_error(tmp_path):
    with pytest.raises(ProjectError, match="at least 32 bytes"):
        Settings.from_environment({"ETHOGRAM_HOME": str(tmp_path), "ETHOGRAM_JWT_KEY": "short"})


def test_keys_are_made_listed_and_revoked_from_the_command_line(tmp_path):
    def run(*words):
        told = CliRunner().invoke(app, ["keys", *words, "--json"], env={"ETHOGRAM_HOME": str(tmp_path)})
        assert told.exit_code == 0, told.output
        return json.loads(told.stdout)

    made = run("create", "the shop", "--scope", "read", "--scope", "write")
    file = tmp_path / "keys.json"
    assert made["key"] not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    (listed,) = run("list")["keys"]
    assert (listed["id"], listed["name"], listed["scopes"]) == (made["id"], "the shop", "read, write")
    assert Keys(file).caller(made["key"]).scopes == {"read", "write"}
    turned = run("rotate", made["id"], "--grace", "2h")
    before, new = run("list")["keys"]
    assert (before["id"], new["id"], new["until"]) == (made["id"], turned["id"], "")
    assert before["until"] > new["created"]
    assert Keys(file).caller(turned["key"]).scopes == {"read", "write"}
    assert run("revoke", made["id"]) == {"revoked": made["id"]}
    assert Keys(file).caller(made["key"]) is None
    told = CliRunner().invoke(app, ["keys", "create", "x", "--scope", "red"], env={"ETHOGRAM_HOME": str(tmp_path)})
    assert "did you mean 'read'" in str(told.exception)
