"""Feature set: declared features, and the only place where they are computed."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from msgspec import convert, to_builtins
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import StateSchema
from features.errors import DefinitionError, SchemaError
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, iso

if TYPE_CHECKING:
    from features.behaviour.feature import Feature
    from features.behaviour.kernel import Kernel
    from features.project import Project


class FeatureSet:
    """Declared features over a state schema.

    Attributes:
        features: In the order of the columns; behind them the hidden ones, which formulas are made of.
        schema: What histories must hold.
        names: One per column.
    """

    def __init__(self, features: tuple["Feature", ...], schema: StateSchema) -> None:
        self.features = features
        self.schema = schema
        self.names = tuple(feature.name for feature in features if not feature.hidden)

    @classmethod
    def from_yaml(cls, path: Path | str, plan: TrackingPlan, codes: Codes, **options: Any) -> Self:  # noqa: ANN401 - as in `from_dict`
        """The features that a file declares, with the options of `from_dict`.

        Raises:
            DefinitionError: the file is absent or says what it cannot; every fault with its line.
        """
        from features.document import load

        path = Path(path)
        return cls.from_dict(load(path), plan, codes, where=path.name, **options)

    @classmethod
    def of(cls, project: "Project", plan: TrackingPlan, codes: Codes, *, proven: bool = False) -> Self:
        """The features of a project, under its horizon, bounds and zone.

        Args:
            project: Whose features.yaml and definitions.py.
            plan: Its plan.
            codes: Its codes.
            proven: Leave it to the caller to put definitions.py through the laws (see `proof`).

        Raises:
            DefinitionError: a file says what it cannot, or a function breaks a law.
        """
        file, rules = project.file("features.yaml"), project.settings.rules
        declared = cls.from_yaml(file, plan, codes, definitions=project.definitions, **rules)
        if project.definitions and not proven:
            from features.behaviour.proof import keep

            keep(declared, plan, project.root / ".ethogram" / "proofs")
        if not declared.waiting:
            return declared
        from features.behaviour.learning import frozen

        return cls(frozen(declared, project.file("features.lock")).features, declared.schema)

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, object],
        plan: TrackingPlan,
        codes: Codes,
        *,
        horizon: int = 90 * DAY,
        bound: int = 500,
        bounds: Mapping[str, int] | None = None,
        zone: str = "UTC",
        definitions: str = "",
        where: str = "features",
    ) -> Self:
        """The features of a parsed document.

        Args:
            data: As in features.yaml.
            plan: Which events and properties there are.
            codes: The events' codes.
            horizon: Microseconds; no window is longer.
            bound: Newest events kept per event name within the horizon.
            bounds: Event names with a bound of their own.
            zone: Calendar days are this zone's.
            definitions: The text of a definitions.py.
            where: What errors name.
        """
        from features.behaviour.declarations import declared
        from features.behaviour.extension import declared as written
        from features.behaviour.kernel import DECLARABLE
        from features.behaviour.lifetime import fold_of

        own = list(written(definitions, plan)) if definitions else []
        features = declared(data, plan, DECLARABLE, horizon=horizon, where=where, own=own)
        schema = StateSchema.of(
            plan,
            codes.codes,
            {name for feature in features for name in feature.reads()},
            horizon=horizon,
            bound=bound,
            bounds=dict(bounds or {}),
            lifetime=tuple(dict.fromkeys(fold_of(each) for each in features if each.family == "lifetime")),
            zone=zone,
        )
        return cls(features, schema)

    def to_dict(self) -> dict[str, object]:
        """Plain values, enough to compute without the plan."""
        features = [to_builtins(feature) for feature in self.features]  # `asdict` takes twenty times as long
        code = next((each["code"] for each in features if each["code"]), "")
        for each in features:
            each["code"] = _digest(each["code"])
        return {"features": features, "schema": self.schema.to_dict(), **({"definitions": code} if code else {})}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """The feature set that `to_dict` described; a definitions.py in it is not run before something is computed.

        Raises:
            DefinitionError: the code is not that of the features.
        """
        from features.behaviour.feature import Feature

        codes = {"": "", _digest(code := data.get("definitions", "")): code}
        try:
            features = [convert({**each, "code": codes[each["code"]]}, Feature) for each in data["features"]]
        except KeyError:
            raise DefinitionError("the code of definitions.py is not what the features were made of.") from None
        return cls(tuple(features), StateSchema.from_dict(data["schema"]))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the definitions and the schema."""
        return sha256(dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.features)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.features, self.schema)  # without what the kernel keeps of this process

    def __repr__(self) -> str:
        return f"FeatureSet({len(self)} features, {self.fingerprint})"

    def on(self, schema: StateSchema) -> "FeatureSet":
        """The same features over a schema that holds at least what they need.

        Raises:
            SchemaError: the schema lacks something, or its horizon, bounds, codes or zone are others.
        """
        if not schema.covers(self.schema):
            raise SchemaError(
                f"the schema {schema.fingerprint} does not hold what {self!r} needs. "
                "Hint: `StateSchema.union` makes one that does."
            )
        return FeatureSet(self.features, schema)

    def compute(
        self, histories: Histories, at: int | NDArray[np.int64], *, threads: int | None = None
    ) -> FeatureMatrix:
        """Feature values as of `at`, for every row of `histories`.

        Events that happened, or became known, after `at` do not count.

        Args:
            histories: n_rows users' events; a user may appear in several rows.
            at: Microseconds UTC, one for all rows or shape (n_rows,).
            threads: At most so many; by default one a core.

        Returns:
            Values of shape (n_rows, n_features), columns in the order of `names`.

        Raises:
            SchemaError: the histories were recorded under another state schema, or are folded beyond what `at` needs.
            DefinitionError: a list or cuts are still to be learnt.
        """
        if histories.schema is not self.schema and histories.schema.fingerprint != self.schema.fingerprint:
            found, wanted = histories.schema.fingerprint, self.schema.fingerprint
            raise SchemaError(
                f"state has schema {found}, features need {wanted}. Hint: run `ethogram rebuild --state`."
            )
        instants = np.empty(len(histories), np.int64)
        instants[:] = at
        if histories.carry is not None:
            self.check_carry(histories.users, histories.carry, instants)
        values, capped = self.kernel.compute(histories, instants, threads=threads)
        if len(self.names) < len(self.features):
            values = np.ascontiguousarray(values[:, : len(self.names)])
        return FeatureMatrix(values, histories.users, instants, self.names, self.fingerprint, capped)

    @cached_property
    def waiting(self) -> tuple[str, ...]:
        """Features whose list or cuts are still to be learnt from training rows."""
        return tuple(feature.name for feature in self.features if feature.waits)

    @cached_property
    def kernel(self) -> "Kernel":
        """The loops that compute them."""
        from features.behaviour.kernel import Kernel

        if self.waiting:
            raise DefinitionError(
                f"{self.waiting[0]!r} is still to be learnt from training rows. "
                "Hint: `ethogram study run NAME` learns it; or declare its `values` or `cuts`."
            )
        return Kernel(self.features, self.schema)

    def check_carry(
        self, users: Sequence[str] | NDArray[np.object_], carry: NDArray[np.int64], at: NDArray[np.int64]
    ) -> None:
        """Nothing is folded that still counts as of these instants, one a row, or a SchemaError."""
        beyond = np.flatnonzero(carry[:, 0] > (at - self.schema.horizon) // DAY * DAY)
        if len(beyond):
            row = beyond[0]
            folded, asked = iso(int(carry[row, 0])), iso(int(at[row]))
            raise SchemaError(
                f"the state of {users[row]!r} is folded up to {folded}, too far for features as of {asked}. "
                "Hint: compute them from the event log."
            )


def _digest(code: str) -> str:
    """SHA-256, 64 hexadecimal digits; nothing of nothing."""
    return sha256(code.encode()).hexdigest() if code else ""
