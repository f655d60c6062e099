"""The page that lists every feature says what the definitions say now."""

from pathlib import Path

from features.behaviour.catalogue import FORMULAS, markdown, written
from features.behaviour.kernel import DECLARABLE
from features.behaviour.table import MEANINGS

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "features.md"


def test_the_page_is_as_the_definitions_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "Hint: python -m features.behaviour.catalogue docs/features.md"


def test_every_statistic_has_a_formula_a_meaning_and_a_row() -> None:
    stats = {stat for family in DECLARABLE for stat in family.stats}
    assert stats == set(MEANINGS)
    assert stats - {"python"} == set(FORMULAS)
    shown = markdown()
    missing = {stat for stat, formula in FORMULAS.items() if f"| {formula} |" not in shown}
    assert not missing
