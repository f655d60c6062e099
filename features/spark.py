"""Spark: buckets are made and worked on by a cluster whose machines see the log's folder; the kernel is the same."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import EngineError
from features.events.batch import PREFIX, as_stored
from features.events.bucket import COLUMNS, Bucket, Piece
from features.events.engine import Job, Source
from features.events.plan import TrackingPlan

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

T = TypeVar("T")
R = TypeVar("R")

TASKS_PER_CORE = 4
ARROW_ROWS = 1 << 16
ITEM = "place bigint, item binary"
SQL_TYPES = {
    pl.String(): "string",
    pl.Int64(): "bigint",
    pl.Int16(): "smallint",
    pl.Int8(): "tinyint",
    pl.Boolean(): "boolean",
    pl.Float64(): "double",
}


def session() -> "SparkSession":
    """The session that is there, as under `spark-submit`, or a new one as Spark's own settings say: else all cores.

    Raises:
        EngineError: Spark is not installed, or does not start.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise EngineError("Spark is not installed. Hint: install the project with its extra `spark`.") from None
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    shown = str(sys.stderr.isatty()).lower()
    settings = {"spark.driver.maxResultSize": "0", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": shown}
    try:
        return SparkSession.builder.appName("ethogram").config(map=settings).getOrCreate()
    except PySparkException as problem:
        raise EngineError(f"Spark does not start: {str(problem).splitlines()[0]} Hint: it needs Java 17.") from None


class Cluster:
    """A Spark session as an engine: every machine has this project installed and sees the log under the same path.

    Args:
        spark: The session.
    """

    def __init__(self, spark: "SparkSession") -> None:
        self._spark = spark

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """What the work makes of each, in order."""
        results = _collected(self._frame(items).mapInArrow(_Map(work), ITEM))
        for place in range(len(items)):
            yield pickle.loads(results.pop(place))  # noqa: S301 - written by `_Map`

    def make(self, job: Job, places: Sequence[int]) -> Iterator[Bucket]:
        """Blocks are dealt out where they are read, Spark carries the events, buckets are made where they arrive."""
        piles = job.piles(places)
        touching = [source for source in job.sources if (piles[source.share.bucket] >= 0).any()]
        columns = _columns(touching)
        scratch = Path(mkdtemp(dir=job.folder, prefix=".spark-"))
        try:
            for place in places:
                job.users[place].write_parquet(scratch / f"{job.names[place]}.parquet")
            names = [job.names[place] for place in places]
            schema = ", ".join(f"`{name.replace('`', '``')}` {SQL_TYPES[dtype]}" for name, dtype in columns.items())
            dealt = self._frame(touching).mapInArrow(_Deal(job.plan, piles, len(places), columns), schema)
            settled = dealt.repartition(max(len(places), 1), "pile").mapInArrow(_Settle(job.plan, scratch, names), ITEM)
            made = {pile: Bucket(**json.loads(facts)) for pile, facts in _collected(settled).items()}
        finally:
            shutil.rmtree(scratch)
        yield from (made.get(pile) or job.settle(place, []) for pile, place in enumerate(places))

    def _frame(self, items: Sequence[object]) -> "DataFrame":
        context = self._spark.sparkContext
        rows = [(place, bytearray(pickle.dumps(item))) for place, item in enumerate(items)]
        n_tasks = max(1, min(len(items), TASKS_PER_CORE * context.defaultParallelism))
        return self._spark.createDataFrame(context.parallelize(rows, n_tasks), ITEM)


@dataclass(frozen=True)
class _Map:
    work: Callable[..., object]

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        for place, item in _rows(batches):
            yield _row(place, pickle.dumps(self.work(pickle.loads(item))))  # noqa: S301 - written by `_frame`


@dataclass(frozen=True)
class _Deal:
    plan: TrackingPlan
    piles: NDArray[np.int64]
    n_piles: int
    columns: Mapping[str, pl.DataType]

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        for _, item in _rows(batches):
            source: Source = pickle.loads(item)  # noqa: S301 - written by `_frame`
            piece, starts = source.deal(self.plan, self.piles, self.n_piles)
            frame = piece.with_columns(name for name in self.columns if name in COLUMNS)
            frame = frame.with_columns(pile=np.repeat(np.arange(self.n_piles), np.diff(starts)))
            absent = [pl.lit(None, dtype).alias(name) for name, dtype in self.columns.items() if name not in frame]
            yield from _arrow(frame.with_columns(absent).select(list(self.columns)).cast(pl.Schema(self.columns)))


@dataclass(frozen=True)
class _Settle:
    plan: TrackingPlan
    scratch: Path
    names: Sequence[str]

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        frames = [pl.DataFrame(pl.from_arrow(batch)) for batch in batches]
        if not frames:
            return
        arrived = as_stored(pl.concat(frames), self.plan).cast({"place": pl.UInt32})
        for (pile,), frame in arrived.partition_by("pile", as_dict=True, include_key=False).items():
            name = self.names[int(pile)]
            users = pl.read_parquet(self.scratch / f"{name}.parquet")
            made = Bucket.write(self.scratch.parent / name, [Piece.of(frame)], users, self.plan.too_fast)
            yield _row(int(pile), json.dumps(asdict(made)).encode())


def _columns(sources: Sequence[Source]) -> dict[str, pl.DataType]:
    """What is carried: texts as texts, and the properties of all blocks."""
    columns: dict[str, pl.DataType] = {"pile": pl.Int64(), "place": pl.Int64()}
    fields = {name: dtype for name, dtype in COLUMNS.items() if name != "until"}
    held = [pl.read_parquet_schema(source.block.events) for source in sources]
    properties = {name: dtype for each in held for name, dtype in each.items() if name.startswith(PREFIX)}
    for name, dtype in {**fields, **dict(sorted(properties.items()))}.items():
        columns[name] = pl.String() if dtype == pl.Categorical else dtype
    return columns


def _rows(batches: "Iterator[pa.RecordBatch]") -> Iterator[tuple[int, bytes]]:
    for batch in batches:
        for row in batch.to_pylist():
            yield row["place"], row["item"]


def _row(place: int, item: bytes) -> "pa.RecordBatch":
    import pyarrow as pa

    return pa.RecordBatch.from_pydict({"place": pa.array([place], pa.int64()), "item": pa.array([item], pa.binary())})


def _arrow(frame: pl.DataFrame) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    plain = [field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in table.schema]
    yield from table.cast(pa.schema(plain)).to_batches(max_chunksize=ARROW_ROWS)


def _collected(frame: "DataFrame") -> dict[int, bytes]:
    from pyspark.errors import PySparkException

    try:
        return dict(_rows(iter(frame.toArrow().to_batches())))
    except PySparkException as problem:
        lines = [line for line in str(problem).splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if "Error: " in line and not line.startswith("\t")), lines[0])
        raise EngineError(f"a task failed on the cluster: {said.strip()}") from problem
