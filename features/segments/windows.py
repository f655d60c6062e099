"""Windows: every window of a program as an interval of instants, resolved once for a user and an instant."""

from features.behaviour.compiled import Ints, compiled_inside, place
from features.behaviour.schema import MISSING
from features.instants import DAY, NEVER
from features.segments.nodes import AGO, BETWEEN, CALENDAR, SESSION, SINCE_FIRST_SEEN

LOW, HIGH, UNKNOWN_HERE, RESET = range(4)
"""Of a resolved window: an event counts iff LOW < ts <= HIGH; whether it reaches behind what is kept; the instant at
which it starts anew or becomes unknown, other than by sliding."""

MODE, START, END = range(3)
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; weeks begin on Mondays


@compiled_inside
def resolve(
    windows: Ints, at: int, horizon: int, first_seen: int, session: tuple[int, int], midnight: int,
    zone_starts: Ints, zone_offsets: Ints, spans: Ints,
) -> None:  # fmt: skip
    """Fill `spans`, shape (n_windows, 4).

    Args:
        windows: Mode, start, end of each (see `nodes.Window`).
        at: As of.
        horizon: What happened longer ago is not kept.
        first_seen: The user's first event ever; MISSING without one.
        session: (first instant, instant from which it is over) of the open session; (NEVER, NEVER) without one.
        midnight: When a life-time figure may change although nothing happens; mostly NEVER.
        zone_starts: See `instants.zone_offsets`.
        zone_offsets: See there.
        spans: To be filled.
    """
    kept = at - horizon
    for k in range(len(windows)):
        mode, start, end = windows[k, MODE], windows[k, START], windows[k, END]
        low, high, unknown, reset = MISSING, at, 0, midnight
        if mode == AGO:
            low, high, reset = at - start, at - end, NEVER
        elif mode == BETWEEN:
            low, high, reset = start - 1, min(end - 1, at), NEVER
            if first_seen != MISSING and first_seen < end:
                reset = max(start, first_seen) + horizon
                if reset <= at:
                    unknown, reset = 1, NEVER
        elif mode == SINCE_FIRST_SEEN:
            low, high, reset = at, at, NEVER
            if first_seen != MISSING:
                low, high, reset = first_seen - 1, min(first_seen + start, at), first_seen + horizon
                if first_seen <= kept:
                    unknown, reset = 1, NEVER
        elif mode == SESSION:
            low, reset = session[0] - 1, session[1]
        elif mode == CALENDAR:
            begin, reset = period(at, start, zone_starts, zone_offsets)
            low = begin - 1
        spans[k, LOW], spans[k, HIGH], spans[k, UNKNOWN_HERE], spans[k, RESET] = low, high, unknown, reset


@compiled_inside
def period(at: int, unit: int, starts: Ints, offsets: Ints) -> tuple[int, int]:
    """The first instant of the calendar day, week or month around `at`, and of the next one, in the zone."""
    step = len(starts) - 1
    while step > 0 and starts[step] > at:
        step -= 1
    day = (at + offsets[step]) // DAY
    if unit < 2 and _begins(day + 1, starts, offsets) <= at:
        day += 1  # the clock was put back over midnight
    if unit == 0:
        return _begins(day, starts, offsets), _begins(day + 1, starts, offsets)
    if unit == 1:
        day -= (day + EPOCH_WEEKDAY) % 7
        return _begins(day, starts, offsets), _begins(day + 7, starts, offsets)
    year, month = _year_and_month(day)
    following = _day_of(year + (month == 12), month % 12 + 1)
    if _begins(following, starts, offsets) <= at:
        year, month = year + (month == 12), month % 12 + 1
        following = _day_of(year + (month == 12), month % 12 + 1)
    return _begins(_day_of(year, month), starts, offsets), _begins(following, starts, offsets)


@compiled_inside
def _begins(day: int, starts: Ints, offsets: Ints) -> int:
    """The first instant whose local time is the day's midnight or later."""
    local = day * DAY
    step = len(starts) - 1
    while step > 0 and starts[step] > local - 2 * DAY:
        step -= 1
    while step < len(starts) - 1 and max(starts[step], local - offsets[step]) >= starts[step + 1]:
        step += 1
    return int(max(starts[step], local - offsets[step]))


@compiled_inside
def _day_of(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of a month (Hinnant, days_from_civil)."""
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@compiled_inside
def _year_and_month(day: int) -> tuple[int, int]:
    """The civil year and month of a day (Hinnant, civil_from_days)."""
    z = day + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return yoe + era * 400 + (month <= 2), month


@compiled_inside
def after(ts: Ints, places: Ints, low: int, high: int, instant: int) -> int:
    """Of the ascending events `places[low:high]` the first that happened after an instant."""
    while low < high:
        middle = (low + high) >> 1
        if ts[place(places[place(middle)])] > instant:
            high = middle
        else:
            low = middle + 1
    return low


@compiled_inside
def beyond(places: Ints, low: int, high: int, position: int) -> int:
    """Of the ascending `places[low:high]` the first beyond a position."""
    while low < high:
        middle = (low + high) >> 1
        if places[place(middle)] > position:
            high = middle
        else:
            low = middle + 1
    return low
