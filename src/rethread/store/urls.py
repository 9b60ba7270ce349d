"""A database's URL as it may be shown: in a log, an error, a greeting."""

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

ODD: Final = "…"  # stands for what cannot be told from a password


def without_password(url: str, *, keeps_options: bool = False) -> str:
    """The URL without its password, and without options or with all harmless ones.

    Of one that is odd, nothing: a password with a `/` or an `@` may have cut it short.
    """
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return f"postgresql://{ODD}"
    user, at, host = parts.netloc.rpartition("@")
    if "@" in url and not at:
        return f"{parts.scheme}://{ODD}"
    place = f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"
    harmless = urlencode([(name, value) for name, value in options if "password" not in name])
    return f"{place}?{harmless}" if keeps_options and harmless else place
