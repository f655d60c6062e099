"""Documents: YAML 1.2 files read into pydantic models, with errors that name file, line and nearest match."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from features.errors import DefinitionError, nearest
from features.instants import parse_duration, parse_instant

ModelT = TypeVar("ModelT", bound="Definition")


def duration(value: object, info: ValidationInfo) -> object:
    """What a file says of a length of time, as microseconds."""
    return _parsed(value, parse_duration, info)


def _instant(value: object, info: ValidationInfo) -> object:
    return _parsed(value, parse_instant, info)


def _parsed(value: object, parse: Any, info: ValidationInfo) -> object:  # noqa: ANN401 - either of two parsers
    """Numbers are microseconds where Python says them; in a file nobody means that."""
    if isinstance(value, dict | list) or (isinstance(value, int | float) and not info.context):
        return value
    try:
        return parse(str(value))
    except DefinitionError as error:
        raise ValueError(str(error)) from None


Duration = Annotated[int, BeforeValidator(duration), WithJsonSchema({"type": "string", "pattern": "^[0-9]+[smhdw]$"})]
"""Microseconds, written `30m` or `7d`."""
Instant = Annotated[int, BeforeValidator(_instant), WithJsonSchema({"type": "string"})]
"""Microseconds UTC, written as an ISO date or time."""


class Definition(BaseModel):
    """A part of a YAML document: frozen, extra keys refused with the nearest allowed one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        if isinstance(data, Mapping):
            allowed = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in allowed:
                    hint = nearest(str(key), allowed)
                    raise PydanticCustomError(
                        "unknown_key", "unknown key {key}. {hint}", {"key": repr(key), "hint": hint, "at": key}
                    )
        return data

    @classmethod
    def from_yaml(cls, path: Path | str, error: type[DefinitionError] = DefinitionError) -> Self:
        """Read and check one file.

        Raises:
            DefinitionError: (or `error`) the file is absent, is not YAML, or breaks the schema; file and line named.
        """
        path = Path(path)
        return validated(cls, load(path, error), where=path.name, error=error)

    @classmethod
    def from_dict(cls, data: Mapping[str, object], error: type[DefinitionError] = DefinitionError) -> Self:
        """The same checks on a mapping made in Python."""
        return validated(cls, data, where=cls.__name__, error=error)


def rule(broken: Callable[[Any], object], fault: str) -> Any:  # noqa: ANN401 - as pydantic hands it out
    """A rule over several keys of a definition: what breaks it, and what is said then."""

    def check(said: Any) -> Any:  # noqa: ANN401 - any definition
        if broken(said):
            raise ValueError(fault)
        return said

    return model_validator(mode="after")(check)


def load(path: Path, error: type[DefinitionError] = DefinitionError) -> Any:  # noqa: ANN401 - a parsed document
    """The parsed document with its line numbers; doubled keys and broken YAML are errors."""
    return parsed(text_of(path, error), path.name, error)


def text_of(path: Path, error: type[DefinitionError] = DefinitionError) -> str:
    """What the file says."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(f"{path}: no such file. Hint: `ethogram init` writes the first files of a project.") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path.name}: not a YAML file: {problem}") from None


def parsed(text: str, name: str, error: type[DefinitionError] = DefinitionError) -> Any:  # noqa: ANN401 - likewise
    """A file's text with its line numbers."""
    try:
        return YAML().load(text) or CommentedMap()
    except MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise error(f"{name}:{line}: {problem.problem}") from None
    except YAMLError as problem:
        raise error(f"{name}: not a YAML file: {problem}") from None
    except ValueError as problem:  # what looks like a date
        raise error(f"{name}{_no_day(text)}: {problem}. Hint: a text that looks like a date is quoted.") from None
    except RecursionError:
        raise error(f"{name}: its parts are nested too deeply.") from None


def _no_day(text: str) -> str:
    """`:14`, the line of the first date that there is not; empty where none is found."""
    for number, line in enumerate(text.splitlines(), 1):
        for found in re.findall(r"\b(\d{4})-(\d\d?)-(\d\d?)\b", line):
            try:
                date(*map(int, found))
            except ValueError:
                return f":{number}"
    return ""


def dumped(document: object) -> str:
    """The text of a loaded document: comments and order stay, a text stays in its line."""
    yaml, text = YAML(), StringIO()
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(document, text)
    return text.getvalue()


def validated(
    model: type[ModelT], data: object, *, where: str, error: type[DefinitionError] = DefinitionError
) -> ModelT:
    """`data` as `model`, or one error that names every fault with its line."""
    try:
        return model.model_validate(data, context={"written": True} if isinstance(data, CommentedBase) else None)
    except RecursionError:
        raise error(f"{where}: its parts are nested too deeply.") from None
    except ValidationError as problem:
        faults = [_fault(data, where, fault) for fault in problem.errors()]
        raise error("\n".join(dict.fromkeys(faults))) from None


def _fault(data: object, where: str, fault: Any) -> str:  # noqa: ANN401 - pydantic's error dictionary
    path = [*fault["loc"], *([fault["ctx"]["at"]] if fault["type"] == "unknown_key" else [])]
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        message = f"the key {fault['loc'][-1]!r} is missing"
    if fault["type"] == "literal_error" and (words := re.findall("'([^']*)'", fault["ctx"]["expected"])):
        message += f". {nearest(str(fault['input']), words)}"
    return f"{located(data, path, where)}{message}"


def located(data: object, path: Sequence[object], where: str) -> str:
    """`segments.yaml:14: segments.active.when: `, what an error about the value at `path` begins with."""
    line, keys = 0, []
    for step in path:
        if not isinstance(data, CommentedBase | dict | list):
            break
        try:
            child = data[step]  # type: ignore[index, call-overload] # a union's own step is no key: skipped
        except (KeyError, IndexError, TypeError):
            continue
        line = _line(data, step) or line
        keys.append(str(step))
        data = child
    place = f"{where}:{line}" if line else where
    return f"{place}: " + (f"{'.'.join(keys)}: " if keys else "")


def _line(node: object, step: object) -> int:
    if isinstance(node, CommentedMap):
        return int(node.lc.key(step)[0]) + 1
    if isinstance(node, CommentedSeq):
        return int(node.lc.item(step)[0]) + 1
    return 0
