"""Errors: one class per question a caller may ask; each says what happened, what there was, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class EthogramError(Exception):
    """A mistake its user can mend: the command line prints the message and exits with code 2."""


class DefinitionError(EthogramError):
    """A YAML document does not say what its schema allows; the message names file, line and key."""


class PlanError(DefinitionError):
    """The tracking plan, or its lock, cannot be used."""


class SourceError(EthogramError):
    """A file cannot be read as events at all; nothing of it was written."""


class SchemaError(EthogramError):
    """Histories were recorded under another state schema than the features need."""


class ProjectError(EthogramError):
    """A project folder is missing, incomplete, or its settings contradict each other."""


class LogError(EthogramError):
    """The event log is absent, empty, or damaged."""


class StoreError(EthogramError):
    """The state store is not there, full, or takes too long."""


class EngineError(EthogramError):
    """The cluster that was asked for is not there, or failed."""


class StudyError(EthogramError):
    """A study cannot be run on this data, or refuses its own result."""


class AnalysisError(EthogramError):
    """Data cannot be judged as asked: a column, an arm or a value is missing or unfit."""


class BundleError(EthogramError):
    """A model or a bundle is incomplete, altered, or made for other features."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for a name nobody knows: the closest allowed one, else all of them.

    >>> nearest("prodct_viewed", ["product_viewed", "order_completed"])
    "Hint: did you mean 'product_viewed'?"
    """
    names = sorted(allowed)
    match = get_close_matches(name, names, n=1, cutoff=0.6)
    if match:
        return f"Hint: did you mean {match[0]!r}?"
    return f"Hint: allowed are {', '.join(names)}." if names else "Hint: nothing is declared yet."
