"""The rivals' best: the same features as Polars expressions and as SQL for DuckDB."""
