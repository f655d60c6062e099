"""Feature matrix: values with who, when and what they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FeatureMatrix:
    """Feature values of rows (user, at).

    Attributes:
        values: Shape (n_rows, n_features), float64; NaN is missing.
        users: Shape (n_rows,), canonical ids.
        at: Shape (n_rows,), microseconds UTC.
        names: One per column.
        fingerprint: Of the feature set that computed it.
        capped: Shape (n_rows,), True where the bound dropped events.
    """

    values: NDArray[np.float64]
    users: NDArray[np.object_]
    at: NDArray[np.int64]
    names: tuple[str, ...]
    fingerprint: str
    capped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> NDArray[np.float64]:
        """One feature's values, shape (n_rows,)."""
        return self.values[:, self.names.index(name)]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "FeatureMatrix":
        """These rows."""
        values, users, at = self.values[rows], self.users[rows], self.at[rows]
        return FeatureMatrix(values, users, at, self.names, self.fingerprint, self.capped[rows])

    def select(self, names: tuple[str, ...]) -> "FeatureMatrix":
        """These columns, in this order."""
        places = [self.names.index(name) for name in names]
        return FeatureMatrix(self.values[:, places], self.users, self.at, names, self.fingerprint, self.capped)

    def to_polars(self) -> pl.DataFrame:
        """Columns user, at (UTC datetime), then the features."""
        frame = pl.DataFrame(self.values, schema=list(self.names), orient="row")
        who = pl.Series("user", self.users.tolist(), dtype=pl.String)
        when = pl.Series("at", self.at).cast(pl.Datetime("us", "UTC"))
        return frame.insert_column(0, who).insert_column(1, when)

    def to_pandas(self) -> "pd.DataFrame":
        """The same as a pandas frame."""
        return self.to_polars().to_pandas()
