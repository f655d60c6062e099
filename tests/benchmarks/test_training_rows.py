"""The benchmark's rival is an oracle: a range join that knows nothing of the kernels gives every value to the bit."""

from benchmarks import shop, training_rows


def test_a_range_join_counts_and_sums_the_same_of_every_row():
    events = shop.events(20_000, 150, seed=5)
    histories = shop.histories(events, shop.feature_set())
    rows, at = training_rows.asked(len(histories))
    assert len(rows) == 4 * len(histories)
    assert 80 < training_rows.held(histories, rows, at) < 120
    training_rows.against_duckdb(events, histories, rows, at)


def test_the_whole_training_set_has_rows():
    histories = shop.histories(shop.events(20_000, 150, seed=5), shop.feature_set())
    assert training_rows.whole_training_set(histories).value > 0
