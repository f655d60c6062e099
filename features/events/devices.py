"""Devices: device and browser, from the user agent."""

from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from ua_parser import Result

LABELS = ("desktop", "mobile", "tablet", "other")
BROWSERS = ("chrome", "safari", "firefox", "edge", "samsung", "opera", "other")
_DESKTOP = {"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD", "OpenBSD"}
_MOBILE = {"Windows Phone", "BlackBerry OS", "Firefox OS", "KaiOS", "Symbian OS"}


@lru_cache(maxsize=65_536)
def labels_of(user_agent: str) -> tuple[str, str]:
    """One of LABELS (`other`: bots, televisions, programs) and one of BROWSERS."""
    from ua_parser import parse

    result = parse(user_agent)
    family = result.user_agent.family.lower() if result.user_agent else ""
    return _device(result, user_agent), next((name for name in BROWSERS if name in family), "other")


def _device(result: "Result", user_agent: str) -> str:
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


def labels(user_agents: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Device and browser per row; each distinct user agent is parsed once; null stays null."""
    distinct = user_agents.unique().drop_nulls()
    found = [labels_of(agent) for agent in distinct]
    device, browser = (
        user_agents.replace_strict(distinct, pl.Series(names, dtype=pl.String), default=None, return_dtype=pl.String)
        for names in ([device for device, _ in found], [browser for _, browser in found])
    )
    return device, browser
