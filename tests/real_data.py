"""Real data sets: never part of the repository, so that a clone alone has none; ETHOGRAM_DATA leads to their folder."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ETHOGRAM_DATA", "data"))
BIKES = FOLDER / "bike_sharing" / "bike_sharing_dataset.zip"
HILLSTROM = FOLDER / "hillstrom" / "hillstrom.csv.gz"
SHOPPERS = FOLDER / "online_shoppers" / "online_shoppers_intention.csv"


def needs(path: Path) -> pytest.MarkDecorator:
    """What has nothing to run on without this file is left out, and says which.

    The data sets may not be passed on, so nobody who has the repository alone can run these; .ci/run leads to them.
    """
    return pytest.mark.skipif(not path.exists(), reason=f"ETHOGRAM_DATA does not lead to {path.name}, real data")
