"""Catalogue: every feature that can be declared, with formula and meaning; `docs/features.md` shows it.

`python -m tests.features.behaviour.catalogue docs/features.md` writes it there, between two marks.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from features.behaviour.declarations import Declaration
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.kernel import DECLARABLE
from features.behaviour.learning import Lessons, learnt
from features.behaviour.words import Words
from features.events.plan import Codes, TrackingPlan

BEGIN = "<!-- written by python -m tests.features.behaviour.catalogue docs/features.md -->"
END = "<!-- end of what is written -->"

PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "page_viewed": {"properties": {"page": {"type": "category"}}},
            "product_viewed": {"properties": {"category": {"type": "category"}, "product_id": {"type": "category"}}},
            "product_added": {"properties": {"price": {"type": "money"}, "quantity": {"type": "number"}}},
            "product_removed": {"properties": {"price": {"type": "money"}, "quantity": {"type": "number"}}},
            "order_completed": {"properties": {"revenue": {"type": "money"}}},
            "clicked": {"properties": {"element": {"type": "category"}}},
            "cart_viewed": {},
            "scrolled": {},
        },
        "traits": {"country": {"type": "category"}, "newsletter": {"type": "flag"}},
    }
)
"""What the examples in the declarations' docstrings speak of."""

FORMULAS: Mapping[str, str] = {
    "count": "n",
    "sum": "Σ x",
    "mean": "Σ x / n",
    "min": "min x",
    "max": "max x",
    "first": "x of the first",
    "last": "x of the last",
    "std": "√(Σ (x - mean)² / n)",
    "median": "the middle x, or the mean of the two",
    "mode": "the v of greatest n(v)",
    "top_share": "the k greatest n(v), summed / n",
    "share": "n(v) / n",
    "distinct": "how many v",
    "active_days": "how many days of t",
    "recency": "at - t of the last",
    "tenure": "at - t of the first",
    "sessions": "s",
    "session_minutes": "Σ (end - begin) / s",
    "session_depth": "events of sessions / s",
    "bounce_share": "sessions of one event / s",
    "session_pause_minutes": "Σ (next begin - end) / (s - 1)",
    "session_count": "Σ n / s",
    "session_distinct": "Σ how many v / s",
    "current_session_minutes": "last t - first t",
    "current_session_count": "n",
    "current_session_distinct": "how many v",
    "transition": "(m(a, b) + alpha) / (d(a) + kinds * alpha)",
    "entropy": "-Σ p(a) log2 p(a)",
    "moves": "m(a, b)",
    "transition_entropy": "-Σ p(a, b) log2 p(b after a)",
    "ngram": "runs of these events",
    "pattern": "sessions with the order",
    "has_pattern": "1 or 0",
    "funnel_furthest": "max of steps taken",
    "funnel_dropoff": "steps taken + 1",
    "funnel_step_s": "t of step k - t of step k - 1",
    "funnel_since_incomplete_s": "at - t of its last step",
    "dwell": "Σ min(next t - t, gap)",
    "mean_dwell": "Σ min(next t - t, gap) / n",
    "hour_share": "n in these hours / n",
    "weekday_share": "n on this day / n",
    "mean_interval": "(last t - first t) / (n - 1)",
    "interval_variation": "std / mean of the intervals",
    "streak": "days in a row",
    "longest_streak": "max of days in a row",
    "decayed_count": "Σ 0.5^((at - t) / half-life)",
    "decayed_sum": "Σ x * 0.5^((at - t) / half-life)",
    "rage_clicks": "n with enough others before",
    "dead_clicks": "n without a next t in time",
    "abandoned_carts": "n without a next t in time",
    "cart_value": "Σ ± price * quantity",
    "ratio": "A / B",
    "difference": "A - B",
    "score": "Σ weight * A",
    "rank": "1 + cuts below A",
    "rank_down": "1 + cuts not below A",
}
"""Per statistic; n events of the kind in the window at instants t, with values x, of which n(v) are v."""


def examples(declaration: type[Declaration]) -> list[Mapping[str, Any]]:
    """The entries that a declaration's docstring shows."""
    return [YAML(typ="safe").load(text) for text in re.findall(r"`(\{.*?\})`", declaration.__doc__ or "")]


def markdown() -> str:
    """A section a family: what may be written, and what it gives."""
    kinds = [(family.name, kind) for family in DECLARABLE for kind in family.declarations]
    empty = for_nobody([entry for _, kind in kinds for entry in examples(kind)])
    lines: list[str] = []
    for name, kind in kinds:
        lines += [*([f"### {name}", ""] if f"### {name}" not in lines else []), *_section(kind, empty)]
    return "\n".join(lines)


def for_nobody(entries: list[Mapping[str, Any]]) -> dict[str, float]:
    """The features of these entries of a person of whom nothing is known, by name."""
    declared = FeatureSet.from_dict({"features": entries}, PLAN, Codes.of(PLAN))
    nobody = Histories.from_states(declared.schema, ["nobody"], [b""])
    rows = Lessons.of(declared).compute(nobody, 0)
    features = learnt(declared, rows, texts=lambda _: {}, population="nobody")
    return dict(zip(features.names, features.compute(nobody, 0).values[0].tolist(), strict=True))


def _section(kind: type[Declaration], empty: Mapping[str, float]) -> Iterator[str]:
    yield from (" ".join((kind.__doc__ or "").split("Attributes:")[0].split()), "")
    yield from ("| feature | formula | meaning | for nobody |", "|---|---|---|---|")
    words = Words(PLAN)
    given = [each for entry in examples(kind) for each in kind.model_validate(entry).features(words) if not each.hidden]
    first = {(each.stat, each.of): each for each in reversed(given)}
    for each in sorted(first.values(), key=given.index):
        without = empty[each.name]
        said = "missing" if without != without else f"{without:g}"
        times = f"{each.numbers[0]:g} * " if each.stat == "ratio" and each.numbers[0] != 1 else ""
        yield f"| `{each.name}` | {times}{FORMULAS[each.stat]} | {each.meaning()} | {said} |"
    yield ""


def written(page: str) -> str:
    """The page with the catalogue between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
