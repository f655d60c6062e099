"""Format: segments.yaml laid out one way, comments kept; and its JSON Schema for editors."""

from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from features.document import dumped, load
from features.errors import DefinitionError
from features.segments.definitions import Document

WIDTH = 110
ORDER = ("description", "status", "when", "membership", "include", "exclude", "emit")
"""A segment's keys in the order in which they are read."""


def schema() -> dict[str, Any]:
    """The JSON Schema of segments.yaml: editors complete and check by it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Document.model_json_schema(by_alias=True)}


def formatted(path: Path) -> str:
    """The text of a file in the one layout: keys in order, leaves and lists of names in one line, comments kept.

    Raises:
        DefinitionError: the file is absent or is not YAML.
    """
    document = load(path)
    if not isinstance(document, dict) or not isinstance(document.get("segments") or {}, dict):
        raise DefinitionError(f"{path.name} has no `segments:`, a mapping of names to definitions.")
    for segment in (document.get("segments") or {}).values():
        if isinstance(segment, CommentedMap):
            for key in reversed([key for key in ORDER if key in segment]):
                segment.move_to_end(key, last=False)
    _flow(document)
    return dumped(document)


def _flow(node: object, depth: int = 0) -> int:
    """Lay out what is short and plain in one line; the length of the node written so."""
    if isinstance(node, CommentedMap):
        size = sum(len(str(key)) + 4 + _flow(value, depth + 1) for key, value in node.items())
    elif isinstance(node, CommentedSeq):
        size = sum(2 + _flow(value, depth + 1) for value in node)
    else:
        return len(str(node))
    listed = isinstance(node, CommentedSeq) and any(isinstance(each, CommentedMap) for each in node)
    if depth > 1 and 2 * depth + size <= WIDTH and not listed and not _commented(node):
        node.fa.set_flow_style()
    else:
        node.fa.set_block_style()
    return size if node.fa.flow_style() else 10 * WIDTH


def _commented(node: CommentedMap | CommentedSeq) -> bool:
    inner = node.values() if isinstance(node, CommentedMap) else node
    own = bool(node.ca.items) or bool(node.ca.comment)
    return own or any(isinstance(each, CommentedMap | CommentedSeq) and _commented(each) for each in inner)
