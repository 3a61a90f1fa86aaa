"""Whether anything can be fetched: without a network the Hub's caches answer, and at once."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants

SECONDS = 4.0  # a host that does not answer by then is not reached


@contextmanager
def cache_alone_without_network(*, needed: bool = True) -> Iterator[None]:
    """A block in which the Hub's libraries look in their cache alone, if there is no network.

    Without it they try again for a minute before they say that the network is missing. Files that
    were fetched before are found either way.

    Args:
        needed: whether anything may be fetched inside.
    """
    before = constants.HF_HUB_OFFLINE
    if needed and not before and not can_connect(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def can_connect(address: str) -> bool:
    """Whether a connection to the host of an address, or to its proxy, opens in time."""
    parts = urlsplit(address)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or os.environ.get("ALL_PROXY")
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    opened: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((parts.hostname or "", port), timeout=SECONDS):
                opened.append(True)
        except OSError:
            pass

    # looking up a name has no time limit of its own
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return bool(opened)
