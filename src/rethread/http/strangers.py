"""Keeps web pages away from a server without keys, which trusts whoever is on this machine.

A page of any site can have the browser send requests to this machine. The browser then tells
the page's `Origin`; or, where the page's name was made to lead here (DNS rebinding), its `Host`.
"""

from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from rethread.errors import Forbidden, shortened

REMEDY: Final = (
    "Without an API key, requests are taken from this machine only. Make a key (rethread keys "
    "create --project NAME), or start with --allow-anonymous."
)


def check_local(headers: dict[bytes, bytes]) -> None:
    """Raise Forbidden where a request names another host than this one, or comes from one."""
    host = headers.get(b"host")
    if host and not _is_local(b"//" + host):
        raise Forbidden(
            f"The host '{_shown(host)}' is not this machine. {REMEDY}", code="forbidden_host"
        )
    origin = headers.get(b"origin")
    if origin and not _is_local(origin):
        raise Forbidden(
            f"The origin '{_shown(origin)}' is not this machine. {REMEDY}", code="forbidden_origin"
        )


@lru_cache(maxsize=64)
def _is_local(url: bytes) -> bool:
    try:
        host = urlsplit(url.decode("latin-1")).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(value: bytes) -> str:
    return shortened(value.decode("latin-1"))
