"""What definitions.py computes keeps the laws, or is refused with a counterexample."""

import pytest

from features.behaviour.feature_set import FeatureSet
from features.behaviour.proof import keep, prove
from features.errors import DefinitionError
from tests.features.behaviour.shop import CODES, PLAN, SETTINGS

HEAD = "from features import feature\n"
SLOW = pytest.mark.integration
REQUEST = "a request gives what batch gave"


def proof(code: str, **options):
    yaml = {"features": [{"count": "any", "windows": ["7d"]}]}
    features = FeatureSet.from_dict(yaml, PLAN, CODES, definitions=HEAD + code, **SETTINGS)
    return prove(features, PLAN, n_logs=options.pop("n_logs", 30), **options)


def test_a_function_of_its_columns_keeps_every_law():
    code = """
@feature(windows=["1d", "20d"], properties=["price", "revenue", "product_id", "gift", "seconds"])
def everything(user, at):
    texts = sorted(text or "" for text in user["product_id"])
    numbers = [hash_free(text) for text in texts] + [each for name in ("price", "gift") for each in user[name].tolist()]
    return sum(k * number for k, number in enumerate(numbers) if number == number) + at % 1000 - user.ts.sum() % 977

def hash_free(text):
    return len(text)
"""
    found = proof(code)
    assert (found.broken, found.rows, found.names) == ("", 120, ("everything_1d", "everything_20d"))
    assert "keep 4 laws" in str(found)


def test_without_a_function_there_is_nothing_to_prove():
    assert str(proof("")) == "no feature is declared in definitions.py"


BREACHES = {
    "the clock": "import time\n@feature(windows='7d')\ndef f(user, at):\n    return time.time()\n",
    "the day": "from datetime import date\n@feature(windows='7d')\ndef f(user, at):\n    return date.today().year\n",
    "the hour": "import datetime\n@feature(windows='7d')\ndef f(user, at):\n    return datetime.datetime.now().hour\n",
    "a counter": "kept = []\n@feature(windows='7d')\ndef f(user, at):\n    kept.append(at)\n    return len(kept)\n",
    "chance": "import random\n@feature(windows='7d')\ndef f(user, at):\n    return random.random()\n",
}


@pytest.mark.parametrize("what", [what if what == "the day" else pytest.param(what, marks=SLOW) for what in BREACHES])
def test_what_is_no_function_of_the_columns_is_refused(what):
    found = proof(BREACHES[what], n_logs=5)
    assert f"f_7d breaks a law: {REQUEST}" in found.broken
    assert found.broken.startswith("definitions.py:")
    assert "(none that counts)" in found.broken


@SLOW
def test_the_order_of_a_set_is_found_and_the_smallest_log_is_shown():
    code = """
@feature(windows="20d", properties="product_id")
def favourite(user, at):
    texts = [text for text in user["product_id"] if text]
    return int(max(set(texts), key=texts.count)[1:], 16) % 1000 if texts else None
"""
    found = proof(code, n_logs=60)
    assert "favourite_20d breaks a law" in found.broken
    assert 2 <= found.broken.count("product_viewed") <= 4


def test_files_are_not_there_in_a_service():
    code = "@feature(windows='7d')\ndef f(user, at):\n    return len(open('pyproject.toml').read())\n"
    with pytest.raises(DefinitionError, match=r"definitions.py:4: FileNotFoundError \(f of"):
        proof(code, n_logs=3)


@SLOW
def test_a_proof_is_kept_until_the_code_changes(tmp_path):
    def features(code: str) -> FeatureSet:
        yaml = {"features": [{"count": "any", "windows": ["7d"]}]}
        return FeatureSet.from_dict(yaml, PLAN, CODES, definitions=HEAD + code, **SETTINGS)

    good = features("@feature(windows='7d')\ndef f(user, at):\n    return len(user)\n")
    keep(good, PLAN, tmp_path / "proofs")
    (mark,) = (tmp_path / "proofs").iterdir()
    before = mark.stat().st_mtime_ns
    keep(good, PLAN, tmp_path / "proofs")
    assert mark.stat().st_mtime_ns == before
    with pytest.raises(DefinitionError, match="breaks a law"):
        keep(features(BREACHES["a counter"]), PLAN, tmp_path / "proofs")
