"""The types that the simulator plants are found by the library's features, and not as well by the backbone's few."""

import pytest

from benchmarks.recovery import recovered


@pytest.mark.prove
@pytest.mark.parametrize("seed", [7101, 7102])
def test_the_library_finds_the_planted_types_better_than_the_backbone_s_few_features(seed) -> None:
    found = recovered(seed, users=1_500)
    library = min(found.pop("library"))
    assert library > 0.93
    assert library > 0.08 + max(max(each) for each in found.values()), found
