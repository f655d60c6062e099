"""Places come from the address that an event came from, by a database in MaxMind's format; the address goes."""

import json
from ipaddress import ip_network
from pathlib import Path

import polars as pl
import pytest

from features.errors import PlanError, ProjectError
from features.events.log import EventLog
from features.events.places import Places
from features.events.plan import TrackingPlan

WHERE = {
    "country": {"type": "category", "place": "country.iso_code", "context": "location.country"},
    "region": {"type": "category", "place": "subdivisions.0.iso_code"},
    "city": {"type": "category", "place": "city.names.en"},
}
PLAN = {"events": {"seen": {"properties": WHERE}, "clicked": {}}}
OSLO = {"country": {"iso_code": "NO"}, "city": {"names": {"en": "Oslo"}}, "subdivisions": [{"iso_code": "03"}]}
NETWORKS = {"192.0.2.0/24": OSLO, "198.51.100.128/25": {"country": {"iso_code": "SE"}}, "2001:db8::/33": OSLO}


def encoded(value: object, *, size: int = 4) -> bytes:
    """A value of the data section: type and length (of at most 28), in one byte or two, and the value."""
    if isinstance(value, int):
        kind, length, body = {2: 5, 4: 6, 8: 9}[size], size, value.to_bytes(size, "big")
    elif isinstance(value, str):
        kind, length, body = 2, len(value.encode()), value.encode()
    elif isinstance(value, dict):
        kind, length, body = 7, len(value), b"".join(encoded(key) + encoded(each) for key, each in value.items())
    else:
        kind, length, body = 11, len(value), b"".join(encoded(each) for each in value)
    return bytes([kind << 5 | length] if kind <= 7 else [length, kind - 7]) + body


def mmdb(path: Path, networks: dict[str, dict], *, build: int = 1_700_000_000) -> Path:
    """A database by MaxMind DB's published format, version 2.0: a tree of bits, the data, what it is."""
    nodes: list[list[int | None]] = [[None, None]]
    data, offsets = b"", {}
    for text, record in networks.items():
        network = ip_network(text)
        bits = f"{int(network.network_address):0128b}"[: network.prefixlen + (96 if network.version == 4 else 0)]
        node = 0
        for bit in map(int, bits[:-1]):
            if nodes[node][bit] is None:
                nodes[node][bit] = len(nodes)
                nodes.append([None, None])
            node = nodes[node][bit] or 0
        nodes[node][int(bits[-1])] = -1 - len(offsets)
        offsets[-1 - len(offsets)] = len(data)
        data += encoded(record)
    tree = b"".join(_record(each, len(nodes), offsets) for node in nodes for each in node)
    about = b"".join(
        encoded(name) + encoded(value, size=size)
        for name, value, size in [
            ("node_count", len(nodes), 4),
            ("record_size", 24, 2),
            ("ip_version", 6, 2),
            ("database_type", "Test-City", 0),
            ("languages", ["en"], 0),
            ("binary_format_major_version", 2, 2),
            ("binary_format_minor_version", 0, 2),
            ("build_epoch", build, 8),
            ("description", {"en": "of a test"}, 0),
        ]
    )
    path.write_bytes(tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + bytes([(7 << 5) | 9]) + about)
    return path


def _record(value: int | None, count: int, offsets: dict[int, int]) -> bytes:
    found = count if value is None else value if value >= 0 else count + 16 + offsets[value]
    return found.to_bytes(3, "big")


@pytest.fixture
def places(tmp_path) -> Places:
    return Places(mmdb(tmp_path / "cities.mmdb", NETWORKS))


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("192.0.2.255", ("NO", "03", "Oslo")),
        ("192.0.3.0", (None, None, None)),
        ("198.51.100.127", (None, None, None)),
        (" 198.51.100.128", ("SE", None, None)),
        ("2001:db8:7fff::1", ("NO", "03", "Oslo")),
        ("2001:db8:8000::1", (None, None, None)),
        ("nowhere", (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_an_address_is_where_its_network_is(places, address, found) -> None:
    addresses = pl.Series([address], dtype=pl.String)
    assert tuple(places.of(addresses, spec["place"])[0] for spec in WHERE.values()) == found


def message(event: str, address: str, **context: object) -> str:
    said = {"event": event, "userId": "u", "timestamp": "2026-01-01T00:00:00Z", "context": {"ip": address, **context}}
    return json.dumps(said)


def ingested(folder: Path, places: Places) -> tuple[pl.DataFrame, dict]:
    file = folder / "seen.ndjson"
    told = message("seen", "192.0.2.2", location={"country": "FI"})
    file.write_text("\n".join([message("seen", "192.0.2.1"), told, message("clicked", "192.0.2.3")]))
    log = EventLog(folder / "log", TrackingPlan.from_dict(PLAN), key=b"key", places=places)
    log.ingest(file)
    (part,) = log.parts
    return pl.concat([pl.read_parquet(each.events) for each in part.blocks], how="diagonal"), part.header()


def test_the_place_stays_and_no_file_keeps_the_address(places, tmp_path) -> None:
    frame, header = ingested(tmp_path, places)
    assert frame["p_country"].to_list() == ["NO", "FI", None]
    assert frame["p_city"].to_list() == ["Oslo", "Oslo", None]
    assert header["scorers"] == {"place": "Test-City 1700000000"}
    kept = b"".join(path.read_bytes() for path in (tmp_path / "log").rglob("*") if path.is_file())
    assert b"Oslo" in kept
    assert not any(address in kept for address in (b"192.0.2.1", b"192.0.2.2", b"192.0.2.3"))


def test_a_newer_database_reads_the_file_again(places, tmp_path) -> None:
    ingested(tmp_path, places)
    mmdb(places.path, {"192.0.2.0/24": {"country": {"iso_code": "DK"}}}, build=1_800_000_000)
    frame, header = ingested(tmp_path, places)
    assert frame["p_country"].to_list() == ["DK", "FI", None]
    assert header["scorers"] == {"place": "Test-City 1800000000"}


def test_without_a_database_only_what_events_say_is_known(tmp_path) -> None:
    frame, header = ingested(tmp_path, Places())
    assert frame["p_country"].to_list() == [None, "FI", None]
    assert "p_city" not in frame.columns
    assert "scorers" not in header


def test_a_file_that_is_no_database_is_said_so(tmp_path) -> None:
    for path in (tmp_path / "absent.mmdb", tmp_path / "text.mmdb"):
        with pytest.raises(ProjectError, match=f"places: {path.name} is no MaxMind database"):
            assert Places(path).version
        (tmp_path / "text.mmdb").write_text("no database")


def test_a_place_is_a_category_that_is_never_required() -> None:
    for spec, said in (({"type": "number"}, "is a `category`"), ({"type": "category", "missing": "discard"}, "itself")):
        with pytest.raises(PlanError, match=said):
            TrackingPlan.from_dict({"events": {"seen": {"properties": {"x": {**spec, "place": "a.b"}}}}}, PlanError)
