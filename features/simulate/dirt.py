"""Dirt: copies, late arrivals, bots, bad rows and undeclared properties, each counted as it is planted."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.instants import DAY, HOUR, SECOND
from features.simulate.people import AGENTS
from features.simulate.properties import PRODUCT_IDS, text
from features.simulate.shop import Shop
from features.simulate.visits import MILLISECOND

CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
)
LATE, COPIED, UNDECLARED, BAD = 0.01, 0.01, 0.005, 0.001
"""Shares of the events."""
CRAWLERS_PER_PERSON, FAST_PER_PERSON = 0.002, 0.001
BURST = (60, 120)  # events of a too-fast bot within 0.9 s
LATE_BY = (6 * HOUR, 72 * HOUR)
UNDECLARED_PROPERTY = "debug_build"
LONG_ID = 10_000

BadRow = Callable[[pl.DataFrame], pl.DataFrame]


def _set(**values: object) -> BadRow:
    return lambda row: row.with_columns(**{name: pl.lit(value, row.schema[name]) for name, value in values.items()})


BAD_ROWS: dict[str, BadRow] = {
    "bad_json": lambda row: row,
    "no_event": _set(event=None),
    "unknown_event": _set(event="product_teleported"),
    "bad_timestamp": _set(ts=None),
    "too_old": _set(ts=0),
    "in_future": lambda row: row.with_columns(pl.col("ts") + 400 * DAY),
    "no_user": _set(user_id=None, anonymous_id=None),
    "denied_id": _set(user_id="undefined", anonymous_id=None),
    "long_id": _set(user_id="x" * LONG_ID),
    "out_of_range": _set(p_price=-5.0),
}
"""How a row about a product becomes one that cannot be used, by the reason it is quarantined for."""


def soil(shop: Shop, frame: pl.DataFrame, chunk: int) -> tuple[pl.DataFrame, Counter[str]]:
    """A chunk's messages with everything that goes wrong on their way, in order of arrival, and what was planted.

    Returns:
        The frame with two more columns: `bad` (why the row cannot be used, else null) and `undeclared` (whether it
        carries the undeclared property); and the counts: late, duplicates, undeclared, crawlers, crawler_events,
        fast_bots, fast_events, and quarantined_<reason>.
    """
    rng = shop.generator(6, chunk)
    planted: Counter[str] = Counter()
    frame = _late(shop, rng, frame, planted)
    undeclared = (rng.random(frame.height) < UNDECLARED * shop.dirt) & (frame["event"] != "alias").to_numpy()
    planted["undeclared"] = int(undeclared.sum())
    frame = frame.with_columns(undeclared=pl.Series(undeclared), bad=pl.lit(None, pl.String))
    others = [_copies(shop, rng, frame, planted), _bad_rows(shop, rng, frame, chunk, planted)]
    n_people = shop.chunks[chunk][1] - shop.chunks[chunk][0]
    others += [_crawlers(shop, rng, chunk, n_people, planted), _fast_bots(shop, rng, chunk, n_people, planted)]
    return pl.concat([frame, *others], how="diagonal").sort("received", "message_id"), planted


def _late(shop: Shop, rng: np.random.Generator, frame: pl.DataFrame, planted: Counter[str]) -> pl.DataFrame:
    delay = rng.integers(LATE_BY[0] // MILLISECOND, LATE_BY[1] // MILLISECOND, frame.height) * MILLISECOND
    late = (rng.random(frame.height) < LATE * shop.dirt) & (frame["received"].to_numpy() + delay < shop.end)
    planted["late"] = int(late.sum())
    return frame.with_columns(received=pl.col("received") + pl.Series(np.where(late, delay, 0)))


def _copies(shop: Shop, rng: np.random.Generator, frame: pl.DataFrame, planted: Counter[str]) -> pl.DataFrame:
    delay = rng.integers(1000, HOUR // MILLISECOND, frame.height) * MILLISECOND
    copied = (rng.random(frame.height) < COPIED * shop.dirt) & (frame["received"].to_numpy() + delay < shop.end)
    planted["duplicates"] = int(copied.sum())
    planted["undeclared_copies"] = int((copied & frame["undeclared"].to_numpy()).sum())
    return frame.with_columns(received=pl.col("received") + pl.Series(delay)).filter(pl.Series(copied))


def _bad_rows(
    shop: Shop, rng: np.random.Generator, frame: pl.DataFrame, chunk: int, planted: Counter[str]
) -> pl.DataFrame:
    models = frame.filter(pl.col("p_price").is_not_null() & (pl.col("ts") < shop.end - HOUR))
    n = round(BAD * shop.dirt * frame.height) if models.height else 0
    rows = []
    for number in range(n):
        reason = list(BAD_ROWS)[number % len(BAD_ROWS)]
        row = models[int(rng.integers(models.height))]
        row = row.with_columns(
            bad=pl.lit(reason), undeclared=pl.lit(value=False), message_id=pl.lit(f"x{chunk}-{number}")
        )
        rows.append(BAD_ROWS[reason](row))
        planted[f"quarantined_{reason}"] += 1
    return pl.concat(rows) if rows else frame.clear()


def _crawlers(shop: Shop, rng: np.random.Generator, chunk: int, n_people: int, planted: Counter[str]) -> pl.DataFrame:
    n_bots = rng.poisson(CRAWLERS_PER_PERSON * shop.dirt * n_people)
    lengths = rng.integers(40, 160, n_bots)
    bot = np.repeat(np.arange(n_bots), lengths)
    first = rng.integers(0, max(1, shop.days * DAY - 2 * HOUR), n_bots)
    since = np.cumsum(rng.integers(2 * SECOND, 15 * SECOND, len(bot)))
    opening = since[np.cumsum(lengths) - lengths] if n_bots else since
    ts = shop.start + first[bot] + since - opening[bot]
    planted["crawlers"], planted["crawler_events"] = n_bots, len(bot)
    return _bot_frame(rng, f"c{chunk}", bot, ts, agent=text(CRAWLERS, bot % len(CRAWLERS)))


def _fast_bots(shop: Shop, rng: np.random.Generator, chunk: int, n_people: int, planted: Counter[str]) -> pl.DataFrame:
    n_bots = rng.poisson(FAST_PER_PERSON * shop.dirt * n_people)
    lengths = rng.integers(*BURST, n_bots)
    bot = np.repeat(np.arange(n_bots), lengths)
    first = rng.integers(0, max(1, shop.days * DAY - HOUR), n_bots)
    ts = shop.start + first[bot] + rng.integers(0, 900, len(bot)) * MILLISECOND
    planted["fast_bots"], planted["fast_events"] = n_bots, len(bot)
    return _bot_frame(rng, f"f{chunk}", bot, ts, agent=text(AGENTS, bot % len(AGENTS)))


def _bot_frame(
    rng: np.random.Generator, name: str, bot: NDArray[np.int64], ts: NDArray[np.int64], *, agent: pl.Series
) -> pl.DataFrame:
    n = len(bot)
    ts = ts // MILLISECOND * MILLISECOND
    return pl.DataFrame(
        {
            "person": pl.Series(np.full(n, -1)),
            "message_id": pl.Series([f"{name}-{place}" for place in range(n)], dtype=pl.String),
            "event": pl.repeat("product_clicked", n, eager=True),
            "anonymous_id": pl.Series([f"visitor-{name}-{each}" for each in bot], dtype=pl.String),
            "ts": pl.Series(ts),
            "received": pl.Series(ts + 100 * MILLISECOND),
            "user_agent": agent,
            "p_product_id": text(PRODUCT_IDS, rng.integers(0, len(PRODUCT_IDS), n)),
            "undeclared": pl.repeat(value=False, n=n, eager=True),
        }
    )
