"""The event log: parts appear whole, buckets are sorted and de-duplicated, histories carry everything on."""

import polars as pl
import pytest

from features.behaviour.feature_set import FeatureSet
from features.behaviour.schema import StateSchema
from features.errors import EthogramError, LogError
from features.events.log import EventLog
from features.events.mapping import Mapping
from features.events.segment import segment_messages
from features.instants import HOUR, MINUTE, SECOND, parse_instant

NOW = parse_instant("2026-03-01T12:00:00.5Z")


def _messages(count, user="u1", **fields):
    return [
        {"type": "track", "event": "Product Viewed", "userId": user, "messageId": f"{user}-{n}", **fields}
        for n in range(count)
    ]


@pytest.fixture
def log(tmp_path, plan, key):
    return EventLog(tmp_path / "log", plan, key=key)


def _append(log, messages, name, received=NOW):
    cleaned = log.clean(segment_messages(messages, log.plan, received=received))
    log.append(cleaned.batch, name=name, quarantine=cleaned.quarantine)


def _schema(log, *properties):
    return StateSchema.of(log.plan, log.codes.codes, set(properties))


def test_an_empty_log_says_so(log):
    with pytest.raises(LogError, match="is empty"):
        log.span()


def test_appending_a_name_twice_changes_nothing(log):
    _append(log, _messages(3), "one")
    _append(log, _messages(5), "one")
    assert log.frame().height == 3


def test_compaction_is_done_once(log):
    _append(log, _messages(3), "one")
    first = log.compact()
    assert log.compact() == first
    _append(log, _messages(4, "u2"), "two")
    assert log.compact().rows == 7


def test_of_copies_the_first_known_counts(log):
    _append(log, _messages(1, properties={"product_id": "late"}), "later", received=NOW + HOUR)
    _append(log, _messages(1, properties={"product_id": "early"}), "earlier", received=NOW)
    assert log.frame()["p_product_id"].to_list() == ["early"]
    assert log.compact().duplicates == 1


def test_an_identify_joins_histories_from_its_arrival_on(log):
    _append(log, [{**_messages(1, "x")[0], "userId": None, "anonymousId": "a1"}], "anonymous")
    identify = {"type": "identify", "userId": "u1", "anonymousId": "a1", "messageId": "i"}
    _append(log, [identify, *_messages(1)], "known", received=NOW + HOUR)
    frame = log.frame()
    assert frame["user"].unique().to_list() == ["u1"]
    assert frame["known"].min() == NOW + HOUR
    assert log.canonical() == {"a1": ("u1", NOW + HOUR), "u1": ("u1", 0)}


def test_histories_carry_marks_consent_and_removals(log):
    bot = _messages(2, "robot", context={"userAgent": "Googlebot/2.1 (+http://www.google.com/bot.html)"})
    said = _messages(2, "u1", context={"consent": {"categoryPreferences": {"model_training": False}}})
    _append(log, [*bot, *said], "one")
    histories = log.histories(_schema(log, "price"))
    assert list(histories.users) == ["u1"]
    assert histories.consent().tolist() == [0b011]
    assert log.frame()["mark"].to_list() == ["bot", "bot", None, None]


def test_a_burst_is_taken_back_once_it_is_known(log):
    _append(log, _messages(40), "first half", received=NOW)
    _append(log, [{**each, "messageId": f"b{n}"} for n, each in enumerate(_messages(40))], "second", received=NOW + 10)
    frame = log.frame()
    assert frame.filter(pl.col("until") == NOW + 10).height == 40
    assert frame.filter(pl.col("mark") == "too_fast").height == 40
    assert log.histories(_schema(log)).n_records == 80  # forty events, each with the record that takes it back


def test_a_clock_of_minutes_makes_no_burst(log):
    whole = NOW // MINUTE * MINUTE
    _append(log, _messages(80), "one", received=whole)
    assert log.frame()["mark"].null_count() == 80


def test_buckets_give_the_same_histories_as_the_whole(tmp_path, plan, key):
    log = EventLog(tmp_path / "log", plan, key=key, bucket_rows=16)
    for user in range(20):
        _append(log, _messages(5, f"u{user}"), f"part{user}", received=NOW + user * SECOND)
    schema = _schema(log, "price")
    assert log.compact().n_buckets == 8
    buckets = [users for each in log.histories_by_bucket(schema) for users in each.users]
    assert sorted(buckets) == sorted(log.histories(schema).users)
    assert list(log.histories(schema, users=["u7", "nobody"]).users) == ["u7"]


WAREHOUSE = {
    "source": "warehouse",
    "event": "event",
    "ts": "ts",
    "received": "written",
    "user_id": "user",
    "message_id": "row",
    "properties": {"price": "price"},
    "restated": True,
}


SUM, COUNT = "sum_product_viewed_price_1d", "count_product_viewed_1d"


def _table(path, rows):
    pl.DataFrame(rows, schema=["row", "event", "ts", "written", "user", "price"], orient="row").write_csv(path)
    return path


def test_a_restated_row_counts_until_the_next_version_is_known(log, tmp_path):
    day = "2026-03-01T"
    first = [
        ("r1", "product_viewed", day + "10:00:00.5Z", day + "11:00:00Z", "u1", 5.0),
        ("r2", "product_viewed", day + "10:01:00Z", day + "11:00:00Z", "u1", 7.0),
    ]
    again = [
        ("r1", "product_viewed", day + "10:00:00.5Z", day + "12:00:00Z", "u1", 6.0),
        ("r2", "product_viewed", day + "10:01:00Z", day + "12:00:00Z", "u1", 7.0),  # says the same
        ("r1", "product_viewed", day + "10:02:00Z", day + "13:00:00Z", "u1", 8.0),
    ]
    rules = Mapping.from_dict(WAREHOUSE)
    for place, rows in enumerate((again, first)):  # in whatever order the files come
        log.ingest(_table(tmp_path / f"{place}.csv", rows), mapping=rules)
    noon, one = parse_instant(day + "12:00:00Z"), parse_instant(day + "13:00:00Z")
    versions = log.frame().sort("known").filter(pl.col("p_price") != 7).select("p_price", "until").rows()
    assert versions == [(5.0, noon), (6.0, one), (8.0, None)]
    assert log.compact().duplicates == 1
    assert _prices(log, noon - 1) == (12.0, 2)
    assert _prices(log, noon) == (13.0, 2)
    assert _prices(log, one) == (15.0, 2)


def _prices(log, at):
    declared = {"features": [{"sum": "product_viewed.price", "count": "product_viewed", "windows": ["1d"]}]}
    features = FeatureSet.from_dict(declared, log.plan, log.codes)
    row = features.compute(log.histories(features.schema), at)
    return tuple(row.values[0, [row.names.index(name) for name in (SUM, COUNT)]])


def test_the_log_knows_which_files_tell_no_arrivals(log, tmp_path):
    row = ("r1", "product_viewed", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z", "u1", 5.0)
    log.ingest(_table(tmp_path / "told.csv", [row]), mapping=Mapping.from_dict(WAREHOUSE))
    silent = {name: value for name, value in WAREHOUSE.items() if name not in ("received", "restated")}
    for name, blind_spot in (("one", "1h"), ("two", "1h"), ("three", "0s")):
        more = {} if blind_spot == "0s" else {"blind_spot": blind_spot}
        file = _table(tmp_path / f"{name}.csv", [(name, *row[1:])])
        log.ingest(file, mapping=Mapping.from_dict({**silent, **more}))
    assert log.assumed() == {HOUR: 2, 0: 1}


def test_restated_rows_need_a_name_and_an_instant(tmp_path):
    with pytest.raises(EthogramError, match="`restated` needs `message_id`"):
        Mapping.from_dict({name: value for name, value in WAREHOUSE.items() if name != "received"})


def test_versions_of_one_event_make_no_burst(log, tmp_path):
    rows = [
        ("r", "product_viewed", "2026-03-01T10:00:00.5Z", f"2026-03-01T11:00:00.{n:03}Z", "u1", float(n))
        for n in range(80)
    ]
    log.ingest(_table(tmp_path / "versions.csv", rows), mapping=Mapping.from_dict(WAREHOUSE))
    assert log.frame()["until"].null_count() == 1
    assert log.compact().too_fast == 0
