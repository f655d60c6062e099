"""Pages: what a result prints, as aligned text for a terminal and as one self-contained HTML file."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from training.validation import Estimate

DPI = 150
"""Of pictures that are files: sharp on a screen of two pixels a point."""
WIDTH, LEFT, RIGHT, ABOVE, BELOW = 9, 0.7, 0.15, 0.35, 0.5
"""Of a picture, and the room around what is drawn where it is not fitted; inches."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .9rem; white-space: nowrap; }
th, td { padding: .25rem .8rem; text-align: right; }
th { border-bottom: 2px solid #1b1f24; font-weight: 600; } td { border-bottom: 1px solid #d5dae0; }
th.text, td.text { text-align: left; } img { max-width: 100%; }
.verdict { padding: .8rem 1rem; border-left: .4rem solid #6b7280; background: #f3f4f6; }
.verdict.good { border-color: #15803d; background: #ecfdf3; }
.verdict.bad { border-color: #b91c1c; background: #fef2f2; }
summary { cursor: pointer; color: #2f6db5; margin: .4rem 0; }
details { overflow-x: auto; }
pre { padding: .8rem 1rem; background: #f3f4f6; overflow-x: auto; font-size: .85rem; line-height: 1.45; }
.verdict strong { display: block; font-size: 1.2rem; } .note { color: #57606a; }
"""


@dataclass(frozen=True)
class Table:
    """Rows of ready-made cells under a header; the first `texts` columns are words, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    def text(self) -> str:
        """Aligned columns."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.header))]
        return "\n".join("  ".join(map(self._aligned, line, widths, range(len(widths)))).rstrip() for line in lines)

    def _aligned(self, cell: str, width: int, place: int) -> str:
        return cell.ljust(width) if place < self.texts else cell.rjust(width)

    def html(self) -> str:
        """A table element; nothing when there are no rows."""
        if not self.rows:
            return ""
        head = "".join(self._cell("th", place, cell) for place, cell in enumerate(self.header))
        body = "".join(
            f"<tr>{''.join(self._cell('td', place, cell) for place, cell in enumerate(row))}</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def markdown(self) -> str:
        """A table of Markdown's."""
        rule = ["---" if place < self.texts else "---:" for place in range(len(self.header))]
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, rule, *self.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _cell(self, tag: str, place: int, cell: str) -> str:
        kind = ' class="text"' if place < self.texts else ""
        return f"<{tag}{kind}>{escape(cell)}</{tag}>"


def verdict(answer: str, reasons: Iterable[str], *, good: bool | None = None) -> str:
    """A box with an answer and its reasons; green, red, or grey when it is neither."""
    kind = {True: " good", False: " bad", None: ""}[good]
    return f'<div class="verdict{kind}"><strong>{escape(answer)}</strong>{listing(reasons)}</div>'


def listing(lines: Iterable[str]) -> str:
    """A list of sentences; nothing when there are none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def folded(title: str, *parts: str) -> str:
    """What opens when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def code(text: str) -> str:
    """Text to paste."""
    return f"<pre>{escape(text)}</pre>"


def note(text: str) -> str:
    """A quiet sentence."""
    return f'<p class="note">{escape(text)}</p>'


def link(text: str, address: str) -> str:
    """A paragraph that leads to a file beside the page."""
    return f'<p><a href="{escape(address)}">{escape(text)}</a></p>'


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it; nothing when nothing does."""
    inside = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def page(title: str, subtitle: str, *parts: str) -> str:
    """A whole HTML document that needs no other file and no network."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="note">{escape(subtitle)}</p>{"".join(parts)}</body></html>\n'
    )


def picture(
    draw: Callable[[Sequence["Axes"]], None],
    *,
    panels: int = 1,
    rows: int = 1,
    height: float,
    title: str,
    file: Path | None = None,
    fitted: bool = True,
) -> str:
    """An inline image of plots drawn by `draw`: `panels` side by side in each row, `height` inches high in all.

    It is SVG; with a `file`, it is the PNG that is written there. What has but short numbers at its axes and a line
    below them need not be `fitted` around them, which takes as long as to draw it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained" if fitted else None)
    if not fitted:
        figure.subplots_adjust(LEFT / WIDTH, BELOW / height, 1 - RIGHT / WIDTH, 1 - ABOVE / height)
    draw(list(figure.subplots(rows, panels, squeeze=False).flat))
    buffer, kind = BytesIO(), "png" if file else "svg+xml"
    with rc_context({"svg.hashsalt": "ethogram"}):  # the same figures give the same bytes
        figure.savefig(buffer, format=kind[:3], dpi=DPI, metadata={"Software": None} if file else {"Date": None})
    if file is not None:
        file.write_bytes(buffer.getvalue())
    return _image(title, kind, buffer.getvalue())


def inline(path: Path) -> str:
    """A PNG file inside the page."""
    return _image(path.stem, "png", path.read_bytes())


def _image(title: str, kind: str, data: bytes) -> str:
    return f'<img alt="{escape(title)}" src="data:image/{kind};base64,{b64encode(data).decode()}">'


def write(path: Path, text: str) -> Path:
    """Write a page where it was asked for, folders included.

    Raises:
        AnalysisError: the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"{path} cannot be written: {error.strerror or error}.") from None
    return path


def probability(p: float) -> str:
    """A p-value for people: never a bare zero."""
    return "<1e-16" if p < 1e-16 else f"{p:.3g}" if p < 0.001 else f"{p:.4f}"


def signed(value: float) -> str:
    """A difference for people, with its sign."""
    return f"{value:+.6f}" if abs(value) < 1000 else f"{value:+,.1f}"


def apart(gap: "Estimate") -> str:
    """A difference of two figures for people, with its interval."""
    return f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


def percent(value: float) -> str:
    """A signed share for people."""
    return f"{100 * value:+.2f} %"
