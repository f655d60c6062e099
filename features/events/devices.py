"""Devices: a label from the user agent."""

from functools import lru_cache

import polars as pl

LABELS = ("desktop", "mobile", "tablet", "other")
_DESKTOP = {"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD", "OpenBSD"}
_MOBILE = {"Windows Phone", "BlackBerry OS", "Firefox OS", "KaiOS", "Symbian OS"}


@lru_cache(maxsize=65_536)
def label(user_agent: str) -> str:
    """`desktop`, `mobile`, `tablet` or `other` (bots, televisions, programs)."""
    from ua_parser import parse

    result = parse(user_agent)
    system = result.os.family if result.os else ""
    device = result.device.family if result.device else ""
    if device == "Spider":
        return "other"
    if system == "iOS":
        return "tablet" if device.startswith("iPad") else "mobile"
    if system == "Android":
        return "mobile" if "Mobile" in user_agent else "tablet"
    if device.startswith("Kindle"):
        return "tablet"
    if system in _MOBILE:
        return "mobile"
    return "desktop" if system in _DESKTOP else "other"


def labels(user_agents: pl.Series) -> pl.Series:
    """Per row; each distinct user agent is parsed once; null stays null."""
    distinct = user_agents.unique().drop_nulls()
    names = pl.Series([label(agent) for agent in distinct], dtype=pl.String)
    return user_agents.replace_strict(distinct, names, default=None, return_dtype=pl.String)
