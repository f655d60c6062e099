"""Sources: files of events, block by block: CSV, TSV, Parquet, NDJSON, Segment-shaped JSON; gzip is seen by itself."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import SourceError
from features.events import quarantine
from features.events.batch import EventBatch
from features.events.mapping import Mapping
from features.events.plan import TrackingPlan
from features.events.segment import segment_messages
from features.events.tables import TableReader
from features.events.values import text

BLOCK = 32 << 20
MAX_LINE = 16 << 20
ROWS = 1 << 20
MESSAGES = 50_000
MAX_DOCUMENT = 256 << 20
Bytes = gzip.GzipFile | IO[bytes]
_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
}
_SURPLUS, _PLACE = "\0surplus", "\0place"


def read_source(
    path: Path | str, plan: TrackingPlan, *, mapping: Mapping | None = None, source: str | None = None
) -> Iterator[EventBatch]:
    """The events of a file, in blocks; rows that cannot be read are in each batch's `rejected`.

    Args:
        path: CSV, TSV, Parquet, or lines of JSON; text may be gzipped.
        plan: The tracking plan.
        mapping: What its columns mean. Without one, JSON is Segment-shaped and columns have our own names.
        source: Overrides the mapping's name for where the events came from.

    Raises:
        SourceError: the file cannot be read as events at all.
    """
    path = Path(path)
    kind = _format(path, mapping)
    try:
        if kind == "parquet":
            yield from _parquet(path, plan, mapping, source)
            return
        with _opened(path) as file:
            if kind in ("csv", "tsv"):
                yield from _separated(file, path, plan, mapping, source, "\t" if kind == "tsv" else ",")
            elif kind == "segment" or mapping is None:
                yield from _messages(file, path, plan, mapping, source)
            else:
                yield from _objects(file, path, plan, mapping, source)
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise SourceError(f"{path.name}: the gzip file is cut off or damaged ({problem}). Nothing was kept.") from None
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}.") from None
    except SourceError as problem:
        text = str(problem)
        raise problem if text.startswith(path.name) else SourceError(f"{path.name}: {text}") from None


def content_hash(path: Path | str) -> str:
    """16 hexadecimal digits over a file's bytes."""
    _there(Path(path))
    try:
        with Path(path).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()[:16]
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}.") from None


def _there(path: Path) -> None:
    if not path.exists():
        raise SourceError(f"{path}: no such file.")
    if path.is_dir():
        raise SourceError(f"{path} is a folder. Hint: ingest its files, such as `ethogram ingest {path}/*`.")


def _format(path: Path, mapping: Mapping | None) -> str:
    _there(path)
    if not path.stat().st_size:
        raise SourceError(f"{path.name} is empty: there is not even a header.")
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    guess = _FORMATS.get(suffixes[-1].lower()) if suffixes else None
    kind = (mapping.format if mapping else None) or guess
    if kind is None:
        known = ", ".join(_FORMATS)
        raise SourceError(
            f"{path.name}: the name does not tell the format ({known}). Hint: say `format:` in a mapping."
        )
    return kind


def _opened(path: Path) -> Bytes:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.GzipFile(path) if zipped else path.open("rb")


def _blocks(file: Bytes, name: str, *, quoted: bool = False) -> Iterator[bytes]:
    """Whole lines, about `BLOCK` bytes at a time; where `quoted`, never cut inside quotes.

    Raises:
        SourceError: a line is longer than `MAX_LINE`.
    """
    rest = b""
    lines = 0
    while chunk := file.read(BLOCK):
        cut = _last_line_end(chunk, rest, quoted=quoted)
        if cut < 0:
            rest += chunk
            if len(rest) > MAX_LINE:
                raise SourceError(_too_long(name, lines))
            continue
        block, rest = rest + chunk[: cut + 1], chunk[cut + 1 :]
        _check_lines(block, name, lines)
        lines += block.count(b"\n")
        yield block
        if len(rest) > MAX_LINE:
            raise SourceError(_too_long(name, lines))
    if rest:
        _check_lines(rest, name, lines)
        yield rest


def _last_line_end(chunk: bytes, rest: bytes, *, quoted: bool) -> int:
    cut = chunk.rfind(b"\n")
    if not quoted or cut < 0 or (b'"' not in chunk and b'"' not in rest):
        return cut
    data = np.frombuffer(chunk, np.uint8)
    odd = rest.count(b'"') % 2
    outside = (np.cumsum(data == 34) + odd) % 2 == 0
    ends = np.flatnonzero((data == 10) & outside)
    return int(ends[-1]) if len(ends) else -1


def _check_lines(block: bytes, name: str, before: int) -> None:
    if len(block) <= MAX_LINE:
        return
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
    lengths = np.diff(np.concatenate([[-1], ends, [len(block)]]))
    if lengths.max() > MAX_LINE:
        raise SourceError(_too_long(name, before + int(lengths.argmax())))


def _too_long(name: str, before: int) -> str:
    return f"{name}: line {before + 1} is longer than {MAX_LINE >> 20} MB; that is no file of events. Nothing was kept."


def _separated(
    file: Bytes, path: Path, plan: TrackingPlan, mapping: Mapping | None, source: str | None, separator: str
) -> Iterator[EventBatch]:
    separator = (mapping.separator if mapping else None) or separator
    encoding = mapping.encoding if mapping else "utf-8"
    reader: TableReader | None = None
    columns: list[str] = []
    row = 1
    for block in _blocks(file, path.name, quoted=True):
        content = _utf8(block, encoding, path.name)
        if reader is None:
            columns, content = _header(content, separator, path.name)
            reader = TableReader(columns, plan, mapping=mapping, source=source)
        table, whole = _rows(content, columns, separator)
        yield _placed(table, whole, reader, row)
        row += table.height
    if row == 1:
        raise SourceError("there is a header and nothing below it.")


def _utf8(block: bytes, encoding: str, name: str) -> bytes:
    if encoding != "utf-8":
        return block.decode(encoding).encode()
    try:
        block.decode()
    except UnicodeDecodeError as problem:
        line = block[: problem.start].count(b"\n") + 1
        raise SourceError(
            f"{name}: a text is not UTF-8 (line {line} of a block). Hint: say `encoding: latin-1`."
        ) from None
    return block


def _header(text: bytes, separator: str, name: str) -> tuple[list[str], bytes]:
    line, _, rest = text.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    columns = next(csv.reader([line.decode().rstrip("\r")], delimiter=separator), [])
    columns = [column.strip() for column in columns]
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    if doubled:
        raise SourceError(f"{name}: the header has the column {doubled[0]!r} twice.")
    if not any(columns):
        raise SourceError(f"{name}: the first line is no header.")
    return columns, rest


def _rows(text: bytes, columns: list[str], separator: str) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """A block as texts, and per row whether it has as many fields as the header."""
    widths = _widths(text, separator)
    schema = dict.fromkeys([*columns, _SURPLUS], pl.String())
    try:
        table = pl.read_csv(
            io.BytesIO(text),
            has_header=False,
            schema=schema,
            separator=separator,
            extra_columns="ignore",
            missing_columns="insert",
        )
        if table.height == len(widths):
            return table.drop(_SURPLUS), widths == len(columns)
    except pl.exceptions.PolarsError:
        pass
    return _lenient_rows(text, columns, separator)


def _widths(text: bytes, separator: str) -> NDArray[np.int64]:
    """Fields per record; blank lines are no records."""
    data = np.frombuffer(text if text.endswith(b"\n") else text + b"\n", np.uint8)
    outside = np.cumsum(data == 34) % 2 == 0 if b'"' in text else np.ones(len(data), bool)
    ends = np.flatnonzero((data == 10) & outside)
    seps = np.concatenate([[0], np.cumsum((data == ord(separator)) & outside)])
    starts = np.concatenate([[0], ends[:-1] + 1])
    return np.asarray(seps[ends] - seps[starts] + 1, np.int64)


def _lenient_rows(text: bytes, columns: list[str], separator: str) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """The same where quotes are out of order: a quote inside a field is a character."""
    csv.field_size_limit(MAX_LINE)
    try:
        rows = list(csv.reader(io.StringIO(text.decode(), newline=""), delimiter=separator))
    except csv.Error as problem:
        raise SourceError(f"the quotes are out of order: {problem}.") from None
    rows = [row or [""] for row in rows]
    n = len(columns)
    good = np.array([len(row) == n for row in rows], bool)
    padded = [(row + [""] * n)[:n] for row in rows]
    table = pl.DataFrame(padded, schema=dict.fromkeys(columns, pl.String()), orient="row")
    return table.with_columns(pl.all().replace("", None)), good


def _placed(table: pl.DataFrame, whole: NDArray[np.bool_], reader: TableReader, row: int) -> EventBatch:
    """The rows that have all their fields as events, the others as rejected; blank lines are neither."""
    places = np.arange(row, row + table.height)
    batch = reader.read(table.filter(pl.Series(whole)), places[whole])
    if whole.all():
        return batch
    odd = table.with_columns(pl.Series(_PLACE, places)).filter(~pl.Series(whole))
    odd = odd.filter(pl.any_horizontal(pl.all().exclude(_PLACE).is_not_null()))
    detail = f"not {table.width} fields"
    rows = [
        {"reason": "bad_row", "detail": detail, "source": reader.source, "row": each[_PLACE]} for each in odd.to_dicts()
    ]
    payloads = [quarantine.payload(each) for each in odd.drop(_PLACE).rename(reader.names(table)).to_dicts()]
    return batch.rejecting(
        quarantine.rejects({**each, "payload": text} for each, text in zip(rows, payloads, strict=True))
    )


def _parquet(path: Path, plan: TrackingPlan, mapping: Mapping | None, source: str | None) -> Iterator[EventBatch]:
    try:
        columns = list(pl.read_parquet_schema(path))
        reader = TableReader(columns, plan, mapping=mapping, source=source)
        total = pl.scan_parquet(path).select(pl.len()).collect().item()
        if not total:
            raise SourceError("there are no rows.")
        for start in range(0, total, ROWS):
            table = pl.scan_parquet(path).slice(start, ROWS).collect()
            yield reader.read(table, np.arange(start + 1, start + 1 + table.height))
    except pl.exceptions.PolarsError as problem:
        raise SourceError(f"this is no Parquet file that can be read: {str(problem).splitlines()[0]}") from None


def _lines(file: Bytes, name: str) -> Iterator[tuple[int, list[bytes]]]:
    """Groups of lines, with the place of the first."""
    row = 1
    for block in _blocks(file, name):
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for start in range(0, len(lines), MESSAGES):
            yield row + start, lines[start : start + MESSAGES]
        row += len(lines)


def _messages(
    file: Bytes, path: Path, plan: TrackingPlan, mapping: Mapping | None, source: str | None
) -> Iterator[EventBatch]:
    name = source or (mapping.source if mapping else "segment")
    blind_spot = mapping.blind_spot if mapping else 0
    for row, lines in _document(file, path) or _lines(file, path.name):
        messages = [line if isinstance(line, dict) else _parsed(line) for line in lines if line]
        yield segment_messages(messages, plan, received=None, source=name, blind_spot=blind_spot, first_row=row)


def _document(file: Bytes, path: Path) -> list[tuple[int, list[Any]]] | None:
    """A `.json` file that is one array, or one object over several lines; None where it is lines of JSON."""
    if ".json" not in path.suffixes:
        return None
    try:
        value = msgspec.json.decode(file.read(MAX_DOCUMENT))
    except msgspec.DecodeError:
        file.seek(0)
        return None
    return [(1, value if isinstance(value, list) else [value])]


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - what the line holds; its bytes where it is no JSON
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line


def _objects(file: Bytes, path: Path, plan: TrackingPlan, mapping: Mapping, source: str | None) -> Iterator[EventBatch]:
    reader: TableReader | None = None
    name = source or mapping.source
    for row, lines in _lines(file, path.name):
        values = [_parsed(line) for line in lines]
        good = np.array([isinstance(value, dict) for value in values])
        objects = [value for value in values if isinstance(value, dict)]
        columns = sorted(mapping.needs | {key for each in objects for key in each} - _roots(mapping))
        table = pl.DataFrame(
            {column: [_reach(each, column) for each in objects] for column in columns},
            schema=dict.fromkeys(columns, pl.String()),
        )
        if reader is None:
            present = [
                column
                for column in columns
                if column not in _essential(mapping) or table[column].null_count() < table.height
            ]
            reader = TableReader(present, plan, mapping=mapping, source=source)
        texts = pl.Series(
            "row",
            [line.decode(errors="replace") for line, keep in zip(lines, good, strict=True) if keep],
            dtype=pl.String,
        )
        batch = reader.read(table, np.arange(row, row + len(lines))[good], texts)
        rejected = quarantine.rejects(
            {
                "reason": "bad_json",
                "detail": "not an object",
                "source": name,
                "row": place,
                "payload": quarantine.broken(line),
            }
            for place, line, keep in zip(range(row, row + len(lines)), lines, good, strict=True)
            if line and not keep
        )
        yield batch.rejecting(rejected)


def _essential(mapping: Mapping) -> set[str]:
    """Columns without which no object is an event."""
    user, anonymous = (each.needs if each else set() for each in (mapping.user_id, mapping.anonymous_id))
    naming = {mapping.event.column} if mapping.event.column and not mapping.event.otherwise else set()
    return mapping.ts.needs | naming | (set() if anonymous else user)


def _roots(mapping: Mapping) -> set[str]:
    return {column.partition(".")[0] for column in mapping.needs}


def _reach(value: Any, path: str) -> str | None:  # noqa: ANN401 - whatever JSON held
    """The value at a dotted path as text; a key with dots in its name comes first."""
    if isinstance(value, dict) and path in value:
        return _as_text(value[path])
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return _as_text(value)


def _as_text(value: Any) -> str | None:  # noqa: ANN401 - whatever JSON held
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return text(value)
