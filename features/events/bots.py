"""Bots: user agents that declare themselves, and addresses that the plan lists."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import polars as pl


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], ...]:
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    sources = [each["pattern"] for each in CRAWLER_USER_AGENTS_DATA]
    return tuple(re.compile("|".join(sources[start : start + 25])) for start in range(0, len(sources), 25))


@lru_cache(maxsize=65_536)
def is_bot(user_agent: str) -> bool:
    """Whether the user agent says that it is a crawler (list: the package crawler-user-agents)."""
    return any(pattern.search(user_agent) for pattern in _patterns())


def declared(user_agents: pl.Series) -> pl.Series:
    """Per row, whether the user agent is a declared bot; each distinct one is matched once."""
    bots = [agent for agent in user_agents.unique().drop_nulls() if is_bot(agent)]
    return user_agents.is_in(bots).fill_null(value=False)


@lru_cache(maxsize=64)
def _networks(addresses: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(address, strict=False) for address in addresses)


def listed(ips: pl.Series, addresses: Iterable[str]) -> pl.Series:
    """Per row, whether the address lies in one of the networks; an unreadable address lies in none."""
    networks = _networks(tuple(addresses))
    inside = [ip for ip in ips.unique().drop_nulls() if networks and _within(ip, networks)]
    return ips.is_in(inside).fill_null(value=False)


def _within(ip: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        address = ip_address(ip.strip())
    except ValueError:
        return False
    return any(address in network for network in networks if network.version == address.version)


def too_fast(visitors: pl.Series, ts: pl.Series, *, events: int, seconds: int) -> pl.Series:
    """Per row, whether its visitor ever made more than `events` events within `seconds` (half-open windows)."""
    frame = pl.DataFrame({"visitor": visitors, "ts": ts}).sort("visitor", "ts")
    earlier = pl.col("ts").shift(events).over("visitor")
    fast = frame.filter(pl.col("ts") - earlier < seconds * 1_000_000)["visitor"].unique()
    return visitors.is_in(fast.implode()).fill_null(value=False)
