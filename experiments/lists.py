"""Lists: ids, such as those under `include` and `exclude`, by which the log knows nobody."""

from collections.abc import Collection

from features.events.log import EventLog
from features.segments.segment_set import SegmentSet


def astray(log: EventLog, segments: SegmentSet) -> list[str]:
    """A line for every id under `include` or `exclude` that means nobody: lists hold canonical ids."""
    named = [
        (segment.name, key, user)
        for segment in segments.segments
        for key, users in zip(("include", "exclude"), segments.lists(segment), strict=True)
        for user in users
    ]
    told = strangers(log, {user for _, _, user in named})
    return [f"{name}.{key}: {told[user]}" for name, key, user in named if user in told]


def strangers(log: EventLog, ids: Collection[str]) -> dict[str, str]:
    """What is to be said of those of these ids that are nobody's canonical one; nothing while the log is empty."""
    if not ids or not list(log.parts):
        return {}
    canonical = log.canonical()
    joined = {user: canonical[user][0] for user in ids if canonical.get(user, (user, 0))[0] != user}
    rest = sorted({*ids} - {*joined})
    known = set(log.frame(users=rest, columns=["user", "ts"])["user"]) if rest else set()
    told = {
        user: f"{user!r} has joined {into!r}, and means nobody. Hint: write {into!r}." for user, into in joined.items()
    }
    return told | {user: f"nobody in the log has the id {user!r}." for user in rest if user not in known}
