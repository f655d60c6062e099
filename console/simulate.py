"""Simulate: a shop's events with planted truth, written to a folder."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from console.terminal import PROJECT, Told, answered


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", rich_help_panel=PROJECT)(answered(simulate))


def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write: events/ and truth/ are made in it.")],
    users: Annotated[int, typer.Option(help="People who come at least once.")] = 20_000,
    days: Annotated[int, typer.Option(help="Simulated days.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 7,
    start: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day (default 2026-09-01).")
    ] = None,
    format: Annotated[  # noqa: A002
        Literal["ndjson", "ndjson.gz", "parquet"], typer.Option(help="Segment-shaped JSON lines, or Parquet.")
    ] = "ndjson",
    dirt: Annotated[float, typer.Option(help="Factor on copies, late arrivals, bots and bad rows; 0: clean.")] = 1.0,
    live: Annotated[bool, typer.Option("--live", help="Also the day after, with an A/B test: live/.")] = False,
    shift_day: Annotated[int | None, typer.Option(help="From this day on (0 is the first) something changes:")] = None,
    shift_visits: Annotated[float, typer.Option(help="factor on how often people come;")] = 1.0,
    shift_buying: Annotated[float, typer.Option(help="factor on how readily they fill the cart;")] = 1.0,
    shift_price: Annotated[float, typer.Option(help="factor on prices.")] = 1.0,
) -> Told:
    """Make a shop's events, with truth planted beside them: for trying things out, and for tests.

    The files read like what a shop's tracking sends. `examples/shop` is a project folder for them.
    """
    from features.errors import DefinitionError
    from features.instants import from_datetime, iso
    from features.simulate import Shift, Shop, live_day, write_shop

    first = from_datetime(start) if start else Shop.start
    changes = (shift_visits, shift_buying, shift_price)
    if shift_day is None and changes != (1, 1, 1):
        raise DefinitionError("something changes, but from no day on. Hint: add --shift-day.")
    shift = None if shift_day is None else Shift(shift_day, *changes)
    shop = Shop(users=users, days=days, seed=seed, start=first, dirt=dirt, shift=shift)
    truth = write_shop(shop, folder, format=format)
    planted = dict(sorted(truth.planted.items()))
    lines = [
        f"{planted['messages']:,} messages of {users:,} people, {iso(shop.start)} to {iso(shop.end)}",
        f"events: {folder / 'events'}",
        f"truth:  {folder / 'truth'} (what was planted; nothing but tests and the demo reads it)",
    ]
    figures: dict[str, object] = {"events": str(folder / "events"), "truth": str(folder / "truth"), "planted": planted}
    if truth.judged:
        difficulty = truth.difficulty(truth.judged[-1])
        lines.append(f"orders within 7 days of {iso(difficulty.cut)}: {difficulty}")
        figures["difficulty"] = difficulty.to_dict()
    if live:
        day = live_day(shop, truth)
        day.write(folder / "live")
        lines.append(f"live:   {folder / 'live'}: {day.table.height:,} people in an A/B test; {day.planted}")
        figures["live"] = {"folder": str(folder / "live"), "users": day.table.height, **day.planted.to_dict()}
    return Told(figures, "\n".join(lines))
