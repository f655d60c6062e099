"""Moves: what follows what within a session."""

from fractions import Fraction
from itertools import pairwise
from math import log2

from tests.features.behaviour.oracle.history import NAN, microseconds, named
from tests.features.behaviour.oracle.sessions import Sessions


def added(numbers):
    """One after the other: what Python's `sum` makes of floats is more exact, and not what is promised to the bit."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def bits(counts):
    return added(n * log2(n) for n in counts if n)


class Moves(Sessions):
    """What is told of the order of events in a session."""

    def kinds_in(self, events, names):
        """Which of the names each event is, the first that fits; the others are passed over."""
        found = [next((name for name in names if self.is_a(e, name)), None) for e in events]
        return [name for name in found if name is not None]

    def moves(self, names, window, entry):
        runs = self.runs(microseconds(entry.get("gap", "30m")), window)
        return [pair for run in runs for pair in pairwise(self.kinds_in(run, names))]

    def put_transitions(self, values, names, window, entry):
        alpha, moves = Fraction(str(entry.get("alpha", 1))), self.moves(names, window, entry)
        for one in names:
            for other in names:
                departures = sum(a == one for a, _ in moves)
                chance = (moves.count((one, other)) + alpha) / (departures + alpha * len(names)) if departures else NAN
                values[named(f"transition_{one}_{other}", entry) + f"_{window}"] = float(chance)

    def put_moves(self, values, names, window, entry):
        moves = self.moves(names, window, entry)
        for one in names:
            for other in names:
                values[named(f"moves_{one}_{other}", entry) + f"_{window}"] = float(moves.count((one, other)))

    def put_entropy(self, values, names, window, entry):
        """In bits, written as (sum of n log n of the wholes - sum of n log n of the parts) / n."""
        kinds, moves = self.kinds_in(self.of("any", window), names), self.moves(names, window, entry)
        entropy = conditional = NAN
        if kinds:
            entropy = (bits([len(kinds)]) - bits([kinds.count(name) for name in names])) / len(kinds)
        if moves:
            departures = [sum(a == name for a, _ in moves) for name in names]
            pairs = [bits([moves.count((one, other)) for other in names]) for one in names]
            conditional = (bits(departures) - added(pairs)) / len(moves)
        values[named("entropy", entry) + f"_{window}"] = entropy
        values[named("transition_entropy", entry) + f"_{window}"] = conditional

    def put_ngrams(self, values, listings, window, entry):
        for names in listings:
            found = 0
            for run in self.runs(microseconds(entry.get("gap", "30m")), window):
                parts = [run[k : k + len(names)] for k in range(len(run) - len(names) + 1)]
                found += sum(all(map(self.is_a, part, names)) for part in parts)
            values[named(f"ngram_{'_'.join(names)}", entry) + f"_{window}"] = float(found)

    def put_patterns(self, values, listings, window, entry):
        for names in listings:
            runs = self.runs(microseconds(entry.get("gap", "30m")), window)
            found = sum(self.passes(run, names) for run in runs)
            values[named(f"pattern_{'_'.join(names)}", entry) + f"_{window}"] = float(found)

    def passes(self, run, names):
        """Whether the events of a run go through all names, in order, each event being one of them at most."""
        rest = iter(run)
        return all(any(self.is_a(event, name) for event in rest) for name in names)

    def put_has_patterns(self, values, listings, window, entry):
        counts = {}
        self.put_patterns(counts, listings, window, entry)
        values |= {f"has_{name}": float(count > 0) for name, count in counts.items()}
