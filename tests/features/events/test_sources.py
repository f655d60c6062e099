"""Files become events; a file that is none gives one clear error, a bad row goes to the quarantine."""

import gzip
import json

import polars as pl
import pytest

from features.errors import DefinitionError, SourceError
from features.events import sources
from features.events.log import EventLog
from features.events.mapping import Mapping
from features.events.sources import read_source
from features.instants import HOUR, parse_instant

MAPPING = {
    "source": "shop",
    "user_id": {"column": "customer", "as": "whole"},
    "ts": {"column": "when", "format": "%d/%m/%Y %H:%M", "zone": "Europe/London"},
    "event": {
        "rules": [
            {"when": {"column": "invoice", "starts_with": "C"}, "event": "product_viewed"},
            {"when": [{"column": "quantity", "below": 0}], "event": "page_view"},
        ],
        "otherwise": "order_completed",
    },
    "properties": {
        "revenue": {"product": ["quantity", "price"]},
        "price": {"column": "cents", "times": 0.01},
        "country": {"column": "country", "values": {"UK": "GB"}},
    },
}
HEADER = "invoice,customer,when,quantity,price,cents,country\n"


@pytest.fixture
def log(tmp_path, plan, key):
    return EventLog(tmp_path / "log", plan, key=key)


def _read(path, plan, mapping=None):
    return next(iter(read_source(path, plan, mapping=Mapping.from_dict(mapping) if mapping else None)))


def _csv(tmp_path, text, name="lines.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_mapping_turns_columns_into_events(tmp_path, plan):
    rows = "1,17850.0,01/07/2011 10:30,2,1.5,150,UK\n"
    rows += "C2,17850.0,01/01/2011 10:30,-1,1,100,FR\n3,9,01/01/2011 10:30,-1,1,,\n"
    frame = _read(_csv(tmp_path, HEADER + rows), plan, MAPPING).frame
    assert frame["event"].to_list() == ["order_completed", "product_viewed", "page_view"]
    assert frame["user_id"].to_list() == ["17850", "17850", "9"]
    assert frame["ts"][0] == parse_instant("2011-07-01T09:30:00Z")
    assert frame["offset"].to_list() == [60, 0, 0]
    assert frame["p_revenue"].to_list() == [3.0, -1.0, -1.0]
    assert frame["p_price"].to_list() == [1.5, 1.0, None]
    assert frame["p_country"].to_list() == ["GB", "FR", None]


def test_a_file_without_arrivals_is_known_after_its_blind_spot(tmp_path, plan):
    path = _csv(tmp_path, HEADER + "1,2,01/07/2011 10:30,2,1.5,150,UK\n")
    frame = _read(path, plan, {**MAPPING, "blind_spot": "1h"}).frame
    assert (frame["received"] - frame["ts"]).to_list() == [HOUR]


def test_identical_rows_are_different_events_unless_the_file_carries_duplicates(log, tmp_path):
    path = _csv(tmp_path, HEADER + "1,2,01/07/2011 10:30,2,1.5,150,UK\n" * 3)
    log.ingest(path, mapping=Mapping.from_dict(MAPPING))
    assert log.compact().rows == 3
    report = log.ingest(path, mapping=Mapping.from_dict({**MAPPING, "duplicates": True}))
    assert report.duplicates == 2
    assert log.compact().rows == 1


def test_ids_do_not_depend_on_how_a_file_is_cut_into_blocks(tmp_path, plan, monkeypatch):
    rows = "".join(f'{n % 3},u{n % 3},01/07/2011 10:30,2,1,150,"{chr(10)}UK,""{n % 3}"\n' for n in range(60))
    path = _csv(tmp_path, HEADER + rows)
    whole = _read(path, plan, MAPPING).frame
    monkeypatch.setattr(sources, "BLOCK", 256)
    blocks = list(read_source(path, plan, mapping=Mapping.from_dict(MAPPING)))
    cut = pl.concat([each.frame for each in blocks])
    assert len(blocks) > 5
    assert cut.equals(whole)
    assert whole["id"].n_unique() == 60


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.csv", "a.csv is empty"),
        (HEADER.encode(), "a.csv", "nothing below it"),
        (b"invoice,customer\n1,2\n", "a.csv", "there is no column"),
        (b"a,a\n1,2\n", "a.csv", "twice"),
        (HEADER.encode() + b"x" * (17 << 20), "a.csv", "longer than 16 MB"),
        (HEADER.encode() + b"1,\xff\n", "a.csv", "not UTF-8"),
        (gzip.compress(HEADER.encode() * 99, mtime=0)[:-20], "a.csv.gz", "cut off or damaged"),
        (b"\x1f\x8bnonsense", "a.csv.gz", "cut off or damaged"),
        (b"PAR1 not really", "a.parquet", "no Parquet file"),
        (b"\n\n", "a.ndjson", "nothing in it"),
        (b"{}\n" + b"y" * (17 << 20), "a.ndjson", "longer than 16 MB"),
        (b"a", "a.xlsx", "does not tell the format"),
    ],
)
def test_a_file_that_is_none_gives_one_clear_error_and_leaves_nothing(log, tmp_path, content, name, message):
    path = tmp_path / name
    path.write_bytes(content)
    mapping = None if name.endswith("ndjson") else Mapping.from_dict(MAPPING)
    with pytest.raises(SourceError, match=message) as caught:
        log.ingest(path, mapping=mapping)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert list(log.parts) == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,2", "bad_row"),
        ("1,2,01/07/2011 10:30,2,1.5,150,UK,more", "bad_row"),
        ("1,,01/07/2011 10:30,2,1.5,150,UK", "no_user"),
        ("1,undefined,01/07/2011 10:30,2,1.5,150,UK", "denied_id"),
        ("1,2,31/02/2011 10:30,2,1.5,150,UK", "bad_timestamp"),
        ("1,2,01/07/1999 10:30,2,1.5,150,UK", "too_old"),
        ("1,2,01/07/2011 10:30,many,1.5,150,UK", "bad_value"),
        ("1,2,01/07/2011 10:30,2,-1.5,150,UK", "out_of_range"),
        ("1,2,01/07/2011 10:30,2,1e16,150,UK", "too_large"),
        (f"1,{'x' * 10_000},01/07/2011 10:30,2,1.5,150,UK", "long_id"),
    ],
)
def test_a_bad_row_is_quarantined_and_the_others_are_kept(log, tmp_path, row, reason):
    good = "1,2,01/07/2011 10:30,2,1.5,150,UK\n"
    report = log.ingest(_csv(tmp_path, HEADER + good + row + "\n" + good), mapping=Mapping.from_dict(MAPPING))
    held = log.quarantine()
    assert held.select("reason", "row", "file").rows() == [(reason, 2, "lines.csv")]
    assert json.loads(held["payload"][0])
    assert (report.rows, report.accepted) == (3, 2)


def test_quotes_out_of_order_lose_no_row(log, tmp_path):
    good = "1,2,01/07/2011 10:30,2,1.5,150,UK\n"
    rows = good + '1,2,01/07/2011 10:30,2,1.5,150,5" pipe\n' + good
    assert log.ingest(_csv(tmp_path, HEADER + rows), mapping=Mapping.from_dict(MAPPING)).accepted == 3


def test_times_with_and_without_a_zone_do_not_mix(log, tmp_path):
    rows = ["2026-01-01T00:00:00Z", "2026-01-01 00:00:01", "2026-01-01T02:00:02+02:00"]
    text = "event,user_id,ts\n" + "".join(f"page_view,u,{row}\n" for row in rows)
    log.ingest(_csv(tmp_path, text))
    assert log.quarantine().select("reason", "row").rows() == [("mixed_zones", 2)]
    assert log.frame()["ts"].diff()[1] == 2_000_000
    assert log.frame()["offset"].to_list() == [None, 120]


def test_parquet_with_our_own_names_needs_no_mapping(log, tmp_path, plan):
    ts = parse_instant("2026-01-01")
    table = pl.DataFrame(
        {
            "event": ["page_view", "product_viewed"],
            "user_id": [1.0, 2.0],
            "ts": [ts, ts + 1],
            "p_price": [None, 2.5],
            "colour": ["red", None],
            "message_id": ["a", "b"],
        }
    )
    table.write_parquet(tmp_path / "events.parquet")
    report = log.ingest(tmp_path / "events.parquet")
    assert log.frame().select("user", "ts", "p_price").rows() == [("1", ts, None), ("2", ts + 1, 2.5)]
    assert report.undeclared == {"colour": 1}


def test_lines_of_json_follow_a_mapping_with_paths(log, tmp_path):
    lines = [
        {"event": "page_view", "properties": {"time": 1767225600, "distinct_id": 7.0, "path": "/"}, "$insert_id": "x"},
        {"event": "page_view", "properties": {"time": "soon", "distinct_id": "8"}},
    ]
    path = _csv(tmp_path, "\n".join([*map(json.dumps, lines), "{broken", "[1]"]), "mix.ndjson")
    mapping = {
        "user_id": {"column": "properties.distinct_id"},
        "ts": {"column": "properties.time", "unit": "s"},
        "event": "event",
        "message_id": "$insert_id",
        "properties": {"path": "properties.path"},
    }
    log.ingest(path, mapping=Mapping.from_dict(mapping))
    assert log.frame().select("user", "ts", "p_path").rows() == [("7", 1767225600_000_000, "/")]
    assert log.quarantine().select("reason", "row").sort("row").rows() == [
        ("bad_timestamp", 2),
        ("bad_json", 3),
        ("bad_json", 4),
    ]


@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.gz", "x.json"])
def test_segment_json_comes_in_lines_or_as_one_document(log, tmp_path, name):
    messages = [{"type": "page", "userId": f"u{n}", "timestamp": "2026-01-01T00:00:01Z"} for n in range(3)]
    text = json.dumps(messages, indent=1) if name == "x.json" else "\n".join(map(json.dumps, messages))
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    log.ingest(path)
    assert log.frame()["user"].to_list() == ["u0", "u1", "u2"]


def test_a_mapping_with_a_mistake_says_where(tmp_path, plan):
    path = _csv(tmp_path, "version: 1\nuser_id: customer\nevents: x\n", "m.yaml")
    with pytest.raises(DefinitionError, match=r"m.yaml:3: events: unknown key 'events'. Hint: did you mean 'event'"):
        Mapping.read(path)
    with pytest.raises(SourceError, match="did you mean 'revenue'"):
        Mapping.from_dict({**MAPPING, "properties": {"revenu": "price"}}).check(plan)
