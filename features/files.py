"""Files: each is replaced whole: whoever reads one finds what it said before or what it says now."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident

import polars as pl


@contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Where to write what takes the place of `path` once the block ends well; a block that fails leaves nothing.

    Args:
        path: The file.
        alone: Nobody else writes it meanwhile: what a killed writer left has the same name, and is written over.
    """
    writer = "" if alone else f".{os.getpid()}.{get_ident()}"
    draft = path.with_name(f".{path.name}{writer}.new")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def rewrite(path: Path, text: str) -> None:
    """Write a small file whole, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """The same of plain values."""
    rewrite(path, json.dumps(value, indent=1) + "\n")


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """A Parquet file whose writer holds a lock."""
    with replacing(path, alone=True) as draft:
        frame.write_parquet(draft, compression="lz4")
