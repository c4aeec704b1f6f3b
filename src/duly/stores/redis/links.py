"""From a URL to a link: to one server, to whichever sentinels name, or to a cluster."""

from __future__ import annotations

from typing import cast
from urllib.parse import urlsplit

from duly.stores.redis.cluster import ClusterLink
from duly.stores.redis.link import CALL_TIMEOUT, Link
from duly.stores.redis.sentinel import Sentinels
from duly.stores.redis.topology import CLUSTER, SENTINEL, SingleServer


def open_link(url: str, timeout: float = CALL_TIMEOUT) -> Link:
    """The link that a URL asks for; nothing is dialled yet. Raises InvalidURL."""
    scheme = urlsplit(url).scheme
    if scheme in CLUSTER:
        return cast("Link", ClusterLink(url, timeout))  # the same seam
    return Link(Sentinels(url) if scheme in SENTINEL else SingleServer(url), timeout)
