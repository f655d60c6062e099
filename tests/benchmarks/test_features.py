"""The benchmark's rivals are oracles too: SQL and Polars expressions that know nothing of the kernels."""

import json

import pytest

from benchmarks import features, report, shop
from benchmarks.queries import duckdb_features, polars_features
from benchmarks.report import at_least, at_most


@pytest.fixture(scope="module")
def events():
    return shop.events(20_000, 200, seed=11)


@pytest.mark.parametrize(
    ("declared", "name", "query"),
    [(shop.DECLARED, "features", features.QUERY), (shop.WIDE, "wide", features.WIDE)],
    ids=["backbone", "all families"],
)
def test_polars_and_duckdb_agree_with_the_kernels_in_every_column(events, declared, name, query) -> None:
    asked = shop.feature_set(declared)
    ours = asked.compute(shop.histories(events, asked), shop.AT)
    rivals = features.polars_rivals(getattr(polars_features, name)(events.lazy(), **query))
    rivals |= features.duckdb_rival(getattr(duckdb_features, name)("events", **query), events)
    for called, rival in rivals.items():
        features.assert_equal(ours, rival(), called)


def test_the_document_holds_every_figure_and_the_exit_code_the_verdict(capsys) -> None:
    figures = [at_least("ratio", 6.0, "x", 5), at_most("seconds", 3.0, "s", 2)]
    assert report.report(figures, as_json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert [each["holds"] for each in document["figures"]] == [True, False]
    assert set(document["figures"][0]) == {"name", "value", "unit", "target", "holds"}
    assert report.report(figures[:1], as_json=False) == 0
