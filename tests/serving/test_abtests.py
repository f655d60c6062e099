""": what it may say, and every fault with its line."""

import pytest

from features.errors import DefinitionError
from features.instants import parse_instant
from serving.abtests import AbTests
from tests.serving import shop

GOOD = """version: 1
holdout: {share: 0.05}
tests:
  hero:
    control: plain
    arms:
      plain: {content: {title: Hello}}
      bold: {weight: 2, content: {title: HELLO}}
    segments: [regulars]
    start: 2026-05-01
    ramp:
      - {at: 2026-05-01, share: 0.1}
      - {at: 2026-05-08, share: 0.5}
    metrics:
      bought: {conversion: order_completed, within: 7d}
      revenue: {sum: order_completed.revenue, within: 7d, guardrail: true, margin: 0.02}
"""


def written(folder, text):
    (folder / "ab.yaml").write_text(text, encoding="utf-8")
    return folder / "ab.yaml"


def test_a_file_says_arms_strata_and_a_ramp(tmp_path):
    test = AbTests.read(written(tmp_path, GOOD), segments=["regulars"], plan=shop.plan_in(tmp_path)).test("hero")
    days = [parse_instant(text) for text in ("2026-04-30", "2026-05-01", "2026-05-09")]
    assert [test.share_at(at) for at in days] == [0.0, 0.1, 0.5]
    assert [metric.kind for metric in test.metrics.values()] == ["conversion", "sum"]
    assert AbTests.read(tmp_path / "none.yaml") == AbTests()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "control: plain",
            "control: plane",
            ":5: tests.hero.control: 'plane' is no arm of this test. Hint: did",
        ),
        ("weight: 2", "weight: -2", ":8: tests.hero.arms.bold.weight:"),
        (
            "weight: 2",
            "wait: 2",
            ":8: tests.hero.arms.bold.wait: unknown key 'wait'. Hint: did",
        ),
        ("[regulars]", "[regular]", ":9: tests.hero.segments.0: unknown segment 'regular'. Hint: did you mean"),
        ("start: 2026-05-01", "start: 2026-05-01\n    stop: 2026-04-01", ":11: tests.hero.stop: a test stops"),
        ("share: 0.5}", "share: 0.05}", ":11: tests.hero.ramp: a ramp goes on in time and never down"),
        (
            "conversion: order_completed",
            "conversion: ordered",
            ":15: tests.hero.metrics.bought.conversion: unknown",
        ),
        (
            "order_completed.revenue",
            "order_completed.revenu",
            ":16: tests.hero.metrics.revenue.sum: 'order_comp",
        ),
        (
            "sum: order",
            "rate: product_viewed, sum: order",
            ":16: tests.hero.metrics.revenue: a metric says",
        ),
        (
            "{content: {title: Hello}}",
            "{model: champion}",
            ":6: tests.hero.arms: a test of models has",
        ),
        ("share: 0.05", "share: 1.5", ":2: holdout.share:"),
        ("    control: plain\n", "", ":4: tests.hero: the key 'control' is missing"),
        ("tests:", "tests:\n  hero: {}", ":5: found duplicate key"),
    ],
)
def test_every_mistake_is_told_with_its_line(tmp_path, old, new, fault):
    assert old in GOOD
    path, plan = written(tmp_path, GOOD.replace(old, new, 1)), shop.plan_in(tmp_path)
    with pytest.raises(DefinitionError) as error:
        AbTests.read(path, segments=["regulars"], plan=plan)
    assert f"ab.yaml{fault}" in str(error.value)


def of_two(first="[0, 0.5]", second="[0.5, 1]", more=""):
    arms = "control: a, arms: {a: {}, b: {}}"
    return (
        f"tests:\n  one: {{{arms}, namespace: {{name: page, range: {first}}}}}\n"
        f"  two: {{{arms}, namespace: {{name: page, range: {second}}}{more}}}\n"
    )


def test_tests_of_one_namespace_may_not_share_people(tmp_path):
    AbTests.read(written(tmp_path, of_two()))
    AbTests.read(written(tmp_path, of_two(second="[0.4, 1]", more=", killed: true")))
    with pytest.raises(DefinitionError, match=r":3: tests.two.namespace.range: 'one' takes some of these"):
        AbTests.read(written(tmp_path, of_two(second="[0.4, 1]")))
    with pytest.raises(DefinitionError, match=r":2: .*from below to"):
        AbTests.read(written(tmp_path, of_two(first="[0.5, 0.5]")))
