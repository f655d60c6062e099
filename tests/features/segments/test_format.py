"""Laying out, the schema for editors, and what mistakes are told."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from features.document import Definition, load, parsed
from features.errors import DefinitionError
from features.segments import definitions
from features.segments.format import formatted, schema
from features.segments.segment_set import SegmentSet
from tests.features.segments.shop import CODES, FEATURES, PLAN, STUDIES

ROOT = Path(__file__).parents[3]
SHOP = ROOT / "examples" / "shop" / "segments.yaml"
SHOWN = re.findall(r"```yaml\n(version.*?)```", (ROOT / "docs" / "segments.md").read_text(), re.DOTALL)


def test_the_shops_file_is_laid_out_as_it_should_be():
    assert formatted(SHOP) == SHOP.read_text()


def test_laying_out_keeps_comments_and_meaning_and_changes_nothing_twice(tmp_path):
    path = tmp_path / "segments.yaml"
    path.write_text(
        "version: 1\nsegments:\n  # who\n  a:\n    when:\n      did:\n        event: buy   # any\n        last: 7d\n"
        "    description: x\n"
    )
    meant, text = load(path), formatted(path)
    path.write_text(text)
    assert load(path) == meant
    assert formatted(path) == text
    assert text.index("description") < text.index("when")
    assert "# who" in text
    assert "# any" in text


def test_the_schema_names_every_condition_and_durations_as_texts():
    made = schema()
    condition = made["$defs"]["Condition"]["properties"]
    assert {"all", "not", "did", "sequence", "percentile", "bucket"} <= set(condition)
    assert made["$defs"]["Regularly"]["properties"]["per"] == {
        "pattern": "^[0-9]+[smhdw]$",
        "title": "Per",
        "type": "string",
    }
    assert "from" in made["$defs"]["Ago"]["properties"]


def complaints(text):
    """What an editor would mark: the places that break the schema."""
    written = json.loads(json.dumps(parsed(text, "segments.yaml"), default=str))
    return [error.json_path for error in Draft202012Validator(schema()).iter_errors(written)]


@pytest.mark.parametrize("text", [SHOP.read_text(), *SHOWN])
def test_the_schema_accepts_the_shops_file_and_what_the_page_shows(text):
    assert SHOWN
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("events", "when", "place"),
    [
        ("{b: {event: 3}}", "{did: {event: b}}", "$.events.b.event"),
        ("{b: {event: buy}}", "{did: {event: b, calendar: dya}}", "$.segments.s.when.did"),
    ],
)
def test_the_schema_marks_what_is_wrong(events, when, place):
    assert complaints(f"version: 1\nevents: {events}\nsegments: {{s: {{when: {when}}}}}\n") == [place]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "    when: {dod: {event: buy}}",
            "segments.yaml:4: segments.s.when.dod: unknown key 'dod'. Hint: did you mean 'did'",
        ),
        ("    when:\n      did: {event: buyy}", "segments.yaml:5: segments.s.when.did.event: unknown event 'buyy'"),
        (
            "    when:\n      did:\n        event: add\n        where: {prise: 3}",
            "segments.yaml:7: .*did you mean 'price'",
        ),
        ("    when:\n      feature:\n        count_any_8d: 3", "segments.yaml:6: .*did you mean 'count_any_7d'"),
        ("    when: {segment: other}", "segments.yaml:4: .*unknown segment 'other'"),
        ("    when: {model: {study: behaviour}}", "segments.yaml:4: .*no study 'behaviour' of propensity"),
        (
            "    when: {cluster: {study: behaviour, in: bargian}}",
            "yaml:4: .*no cluster 'bargian'.*did you mean 'bargain'",
        ),
        (
            "    when:\n      cluster:\n        study: behaviour\n        in:\n          - bargain\n          - steady",
            "yaml:9: segments.s.when.cluster.in.1: 'behaviour' has no cluster 'steady'. Hint: allowed are",
        ),
        ("    when: {did: {event: buy, last: 7d, session: current}}", "segments.yaml:4: .*one window at most"),
        ("    when: {did: {event: buy, last: 7x}}", "segments.yaml:4: .*a duration is"),
        ("    when: {did: {event: buy, count: {gte: many}}}", "segments.yaml:4: .*count"),
        ("    when: {trait: {contry: DE}}", "segments.yaml:4: .*did you mean 'country'"),
        ("    when: {context: {weekday: monday}}", "segments.yaml:4: .*did you mean 'mon'"),
        (
            "    when: {sequence: {steps: [{not: {event: buy}, within: 1h}]}}",
            "segments.yaml:4: .*begins with what happens",
        ),
        ("    when: {sequence: {steps: [{event: add}, {not: {event: buy}}]}}", "segments.yaml:4: .*within: 24h"),
        ("    when: {sequence: {same: section, steps: [{event: add}]}}", "segments.yaml:4: .*`same` needs 'section'"),
        ("    when: {}", "segments.yaml:4: .*a condition says something"),
        (
            "    when: {all: []}",
            r"segments.yaml:4: segments.s.when.all: at least one is expected, as in \[\{did: .*Got none",
        ),
        (
            "    when: {any: {did: {event: buy}}}",
            r"yaml:4: segments.s.when.any: a list is expected, as in \[\{did: .*Got a map",
        ),
        ("    when: {any: [3]}", r"yaml:4: segments.s.when.any.0: a mapping is expected, as in \{did: .*Got 3"),
        ("    when: {feature: [a]}", r"yaml:4: segments.s.when.feature: a mapping is expected.*\{NAME: .*Got a list"),
        ("    when: {did: {event: buy}}\n    include: ann", r"yaml:5: segments.s.include: a list.*\[ID\]. Got 'ann'"),
        ("    when: {did: buy}", r"yaml:4: segments.s.when.did: a mapping .* as in \{event: purchase.*Got 'buy'"),
        ("  t: later", r"yaml:4: segments.t: a mapping is expected, as in \{when: .*Got 'later'"),
        ("    when: {model: {study: purchase_7d, gte: 35}}", "yaml:4: segments.s.when.model.gte: .*equal to 1"),
        ("    when: {model: {study: purchase_7d, gt: 1}}", r"yaml:4: .*no number that 'model' .* \{gt: 1.0\}"),
        ("    when: {bucket: {salt: x, gte: .5, lt: .2}}", r"yaml:4: .*no number that 'bucket' .*gte: 0.5, lt: 0.2"),
        ("    when: {bucket: {salt: x, gte: 1}}", "yaml:4: .*no number that 'bucket'"),
        ("    when: {feature: {count_any_7d: {between: [5, 2]}}}", "yaml:4: .*no number that 'count_any_7d'"),
        ("    when: {context: {devise: mobile}}", "yaml:4: .*unknown context 'devise'. Hint: did you mean 'device'"),
        ("    when: {context: {continent: Europe}}", r"yaml:4: .*no code of a continent.*EU \(Europe\)"),
        ("    when: {context: {page.depth: {between: [5, 2]}}}", "yaml:4: .*`between` of 'page.depth'"),
        (
            "    when:\n      feature:\n        count_any_7d: {gt: 1}\n        count_view_7d: {gtee: 3}",
            "yaml:7: .*'gte'",
        ),
        ("    when:\n      trait:\n        age: {gt: 1}\n        country: {inn: [DE]}", "yaml:7: .*'in'"),
        ("    when:\n      rfm:\n        r: 5\n        f: {gtee: 4}", "yaml:7: segments.s.when.rfm.f: .*'gte'"),
        ("    when:\n      rfm:\n        r: 5\n        f: 6", "yaml:7: segments.s.when.rfm.f: scores are 1 to 5"),
        ("    when: {sequence: {match: lst, steps: [{event: add}]}}", "yaml:4: .*did you mean 'last'"),
        ("    when: {did: {event: buy}}\n    status: activ", "yaml:5: segments.s.status: .*did you mean 'active'"),
        ("    when: {did: {event: buy, calendar: dya}}", "yaml:4: .*did you mean 'day'"),
        ("    when: {did: {event: buy}}\nevents:\n  b: {event: byu}", "yaml:6: events.b.event: .*did you mean 'buy'"),
        (
            "    when: {did: {event: any}}\nevents:\n  c:\n    event: add\n    where:\n      prise: 3\n  buy: {}",
            "yaml:9: events.c.where.prise: .*did you mean 'price'.*\nsegments.yaml:10: events.buy: 'buy' is an event",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_nearest_name(tmp_path, text, told):
    path = tmp_path / "segments.yaml"
    path.write_text(f"version: 1\nsegments:\n  s:\n{text}\n")
    with pytest.raises(DefinitionError, match=told):
        SegmentSet.from_yaml(
            path, PLAN, CODES, FEATURES, studies=STUDIES, clusters={"behaviour": ("bargain", "lookers")}
        )


def test_a_shape_that_is_another_is_told_with_an_example_wherever_it_may_stand():
    models = [each for each in vars(definitions).values() if isinstance(each, type) and issubclass(each, Definition)]
    for model in models:
        assert model.__doc__.startswith("`{") or model in (Definition, definitions.Windowed)
        for name, field in model.model_fields.items():
            if re.search(r"\b(tuple|dict)\[", str(field.annotation)):
                assert (field.alias or name) in definitions.EXAMPLES


def test_a_path_of_a_context_that_nobody_foresaw_is_taken():
    for path in ("basket_size", "own.devise", "weather"):
        said = {"segments": {"s": {"when": {"context": {path: {"gte": 3}}}}}}
        assert SegmentSet.from_dict(said, PLAN, CODES, FEATURES).names == ("s",)


def test_names_of_clusters_that_nobody_knows_yet_are_taken_as_they_are():
    said = {"segments": {"s": {"when": {"cluster": {"study": "behaviour", "in": ["whoever"]}}}}}
    assert SegmentSet.from_dict(said, PLAN, CODES, FEATURES, studies=STUDIES).names == ("s",)
