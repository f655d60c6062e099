"""The page that lists every feature says what the definitions say now."""

import re
from pathlib import Path

from ruamel.yaml import YAML

from features.behaviour.feature import MEANINGS
from features.behaviour.feature_set import FeatureSet
from features.behaviour.kernel import DECLARABLE
from features.events.plan import Codes, TrackingPlan
from tests.features.behaviour.catalogue import FORMULAS, PLAN, markdown, written

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "features.md"


def test_the_page_is_as_the_definitions_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "Hint: python -m tests.features.behaviour.catalogue docs/features.md"


def test_what_the_page_shows_can_be_declared() -> None:
    """Every block that is a whole features.yaml, over the plan of the catalogue and what such properties are."""
    text = {"type": "text"}
    more = {
        "engaged": {"seconds": {"type": "number"}},
        "scrolled": {"depth": {"type": "number"}},
        "video_played": {"watched": {"type": "number", "scale": 100}},
        "products_searched": {"query": {"type": "category"}, "results": {"type": "number"}},
        "product_added_to_wishlist": {},
        "product_reviewed": {
            "review": text,
            "sentiment": {"type": "number", "scale": 1000, "scored": {"sentiment": "review"}},
            "topic": {"type": "category", "scored": {"topic": "review"}},
        },
    }
    held = PLAN.model_dump()
    held["topics"] = {"price": {"dear": 1.0}}
    held["events"] |= {name: {"properties": properties} for name, properties in more.items()}
    held["events"]["order_completed"]["properties"]["payment_method"] = {"type": "category"}
    held["events"]["product_viewed"]["properties"]["price"] = {"type": "money"}
    held["events"]["page_viewed"]["properties"] |= {
        "traffic_source": {"type": "category", "context": "campaign.source"},
        "campaign": {"type": "category", "context": "campaign.name"},
        "country_code": {"type": "category", "place": "country.iso_code"},
    }
    plan = TrackingPlan.from_dict(held)
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    whole = [document for block in blocks if "features" in (document := YAML(typ="safe").load(block))]
    assert len(whole) == 3
    for document in whole:
        assert FeatureSet.from_dict(document, plan, Codes.of(plan)).names


def test_every_statistic_has_a_formula_a_meaning_and_a_row() -> None:
    stats = {stat for family in DECLARABLE for stat in family.stats}
    assert stats == set(MEANINGS)
    assert stats - {"python"} == set(FORMULAS)
    shown = markdown()
    missing = {stat for stat, formula in FORMULAS.items() if f"| {formula} |" not in shown}
    assert not missing
