"""Formulas: numbers made of numbers."""

from tests.features.behaviour.oracle.figures import Figures
from tests.features.behaviour.oracle.history import NAN, listed


class Formulas(Figures):
    """What is made of other features."""

    def put_ratio(self, values, what, _, entry):
        of, by = values[what["of"]], values[what["by"]]
        values[entry["as"]] = of / by if by else NAN

    def put_difference(self, values, what, _, entry):
        values[entry["as"]] = values[what["of"]] - values[what["minus"]]

    def put_score(self, values, what, _, entry):
        total = 0.0
        for name, weight in what["weights"].items():
            total += weight * values[name]
        values[entry["as"]] = total

    def put_trend(self, values, what, *_):
        for name in listed(what):
            week, four = (len(self.of(name, window)) for window in ("7d", "28d"))
            values[f"trend_{name}"] = 4.0 * week / four if four else NAN

    def put_rfm_score(self, values, what, *_):
        event, window = what["event"], what["window"]
        numbers = {
            "r": self.recency(event),
            "f": self.total("count", event, window),
            "m": self.total("sum", f"{event}.{what['money']}", window),
        }
        for letter, number in numbers.items():
            cuts = what["cuts"][letter]
            passed = sum(number > cut for cut in cuts)
            rank = 1.0 + (len(cuts) - passed if letter == "r" else passed)
            values[f"rfm_{letter}_{event}_{window}"] = rank if number == number else NAN
