"""The oracle: every feature over a plain list of events, written from the semantics, deliberately naive.

It imports nothing of the product but the plan, and shares no idea with the kernels: every window is a scan of the whole
list, and nothing is remembered from one feature to the next.
"""

from tests.features.behaviour.oracle.formulas import Formulas
from tests.features.behaviour.oracle.history import DAY, known_events, microseconds
from tests.features.behaviour.oracle.moves import Moves
from tests.features.behaviour.oracle.rhythm import Rhythm
from tests.features.behaviour.oracle.waiting import Waiting

__all__ = ["DAY", "OPTIONS", "Oracle", "known_events", "microseconds"]

OPTIONS = ("where", "as", "windows", "gap", "values", "k", "alpha", "within", "bands", "half_life", "clicks")
"""Keys of an entry that say how, not what."""


class Oracle(Formulas, Moves, Waiting, Rhythm):
    """One user's features as of `at`."""

    def features(self, declared):
        """Name to value, for a list of entries as in features.yaml."""
        values = {}
        for entry in map(self.named, declared):
            for key, what in entry.items():
                if key in OPTIONS:
                    continue
                if hasattr(self, f"put_{key}"):
                    for window in entry.get("windows", [None]):
                        getattr(self, f"put_{key}")(values, what, window, entry)
                    continue
                for name in [what] if isinstance(what, str) else what:
                    self.put(values, key, name, entry.get("windows", ["s"]))
        return values

    def named(self, entry):
        """The entry without its `where`: what it says becomes a kind, and the kind's name stands in its place."""
        if "where" not in entry:
            return entry
        ((key, name),) = [(k, v) for k, v in entry.items() if k not in OPTIONS]
        event = name.partition(".")[0]
        self.kinds[entry["as"]] = {"event": event, "where": entry["where"]}
        options = {k: v for k, v in entry.items() if k in OPTIONS and k not in ("where", "as")}
        return {key: entry["as"] + name[len(event) :], **options}
