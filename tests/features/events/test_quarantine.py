"""The quarantine keeps what a row was, and no direct identifier; looking for them takes no time worth naming."""

import json
import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.quarantine import _DIRECT, _LIKELY, MAX_PAYLOAD, REASONS, Scrubber


@pytest.fixture
def scrubber(plan, key):
    return Scrubber(plan, key)


@pytest.mark.parametrize(
    "secret",
    [
        "ann@example.com",
        "ann.b+c@mail.example.co.uk",
        "192.168.1.77",
        "2001:db8:0:1::7",
        "+44 20 7946 0000",
        "(555) 123-4567",
    ],
)
def test_identifiers_are_found_by_their_form(scrubber, secret):
    for text in (json.dumps({"note": f"see {secret}, thanks"}), f'{{"note": "broken {secret}', json.dumps([[secret]])):
        assert secret not in scrubber.payload(text)


@pytest.mark.parametrize(
    "name", ["email", "userEmail", "phone_number", "ip", "IP_address", "lastName", "shippingAddress"]
)
def test_identifiers_are_found_by_the_name_of_their_field(scrubber, name):
    assert "s3cret" not in scrubber.payload(json.dumps({"a": {name: "s3cret"}}))
    assert "s3cret" not in scrubber.payload(f'{{"a": {{"{name}": "s3cret')
    assert "12345" not in scrubber.payload(json.dumps({name: 12345}))


def test_what_the_plan_drops_is_not_there_at_all(scrubber):
    assert json.loads(scrubber.payload('{"phone": "1", "n": 2}')) == {"n": 2}


def test_everything_else_stays_as_it_was(scrubber):
    payload = json.dumps(
        {"ts": "2026-01-01 10:00:00", "price": -2.5, "id": "550e8400-e29b-41d4-a716-446655440000", "b": None}
    )
    assert json.loads(scrubber.payload(payload)) == json.loads(payload)


def test_a_cut_leaves_no_half_of_an_address(scrubber):
    assert "ann@" not in scrubber.text("x" * 1000 + " ann@example.com is too far to the right " * 3)
    assert len(scrubber.payload('{"x": "' + "y" * 100_000)) <= MAX_PAYLOAD


@pytest.mark.parametrize("piece", ["a", "ip", "+1", "1.2.", "1:", "a@", "a.b@c.", '"mail', "(555) "])
def test_no_payload_takes_long_to_search(scrubber, piece):
    begun = time.perf_counter()
    scrubber.payload(piece * (MAX_PAYLOAD // len(piece)))
    scrubber.payload(json.dumps({"x": piece * (MAX_PAYLOAD // len(piece) - 9)}))
    assert time.perf_counter() - begun < 2


@given(st.text("aé@.:+-( )0123456789fF\n", max_size=40))
def test_the_first_look_misses_nothing(text):
    if _DIRECT.search(text):
        assert pl.Series([text]).str.to_lowercase().str.contains(_LIKELY)[0]


def test_every_reason_is_explained():
    assert all(text for text in REASONS.values())
