"""Evidence: Evidently's own document carries our verdicts."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from experiments import evidence
from experiments.drift import compare


@pytest.mark.integration
def test_evidently_says_what_we_say(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    reference = pl.DataFrame({name: generator.normal(0, 1, 3000) for name in ("a", "b", "gone", "code")})
    reference = reference.with_columns((pl.col("code") > 0).cast(pl.Float64))
    current = reference.head(800).with_columns(pl.col("a") + 0.5, pl.lit(None, dtype=pl.Float64).alias("gone"))
    report = compare(reference, current, categories=["code"])
    page, document = evidence.save(report, reference, current, tmp_path, categories=["code"])
    told = json.loads(document.read_text())
    drifts = [m for m in told["metrics"] if m["config"]["type"].endswith("ValueDrift")]
    ours = {m["config"]["column"]: m["value"] for m in drifts if m["config"]["method"] == evidence.METHOD}
    assert told["metrics"][0]["value"]["count"] == 1
    assert ours["a"] < 0.01
    assert (ours["b"], ours["code"], "gone" in ours) == (1, 1, False)
    assert sorted(m["config"]["column"] for m in drifts) == sorted([*ours, *ours])  # its defaults stand beside
    assert any(m["config"]["type"].endswith("DatasetMissingValueCount") for m in told["metrics"])
    tested = {test["metric_config"]["params"]["type"].split(":")[-1] for test in told["tests"]}
    assert tested == {"ValueDrift", "DriftedColumnsCount"}
    assert page.stat().st_size > 100_000


def test_a_column_that_moved_is_never_left_out_of_evidentlys_report() -> None:
    generator = np.random.default_rng(2)
    names = [f"calm_{place:02}" for place in range(60)] + ["moved"]
    reference = pl.DataFrame({name: generator.normal(0, 1, 3000) for name in names})
    current = reference.head(800).with_columns(pl.col("moved") + 0.5)
    drawn = evidence._drawable(compare(reference, current), reference, current)
    assert drawn[0] == "moved"
    assert len(drawn) == evidence.MOST_COLUMNS


def test_portraits_are_drawn_of_what_moved() -> None:
    generator = np.random.default_rng(1)
    reference = pl.DataFrame({"a": generator.normal(0, 1, 3000), "b": generator.normal(0, 1, 3000)})
    current = reference.head(800).with_columns(pl.col("a") + 0.5)
    assert evidence.portraits(compare(reference, current), reference, current).count("<img") == 1
    assert evidence.portraits(compare(reference, reference), reference, reference) == ""
