"""What both databases are asked: SQL with its arguments, written once.

Each database puts its own words in the place of those that stand in braces; it has their list.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

Row = tuple[Any, ...]

LOCK: Final = "{row_lock}"


class Statement:
    """A piece of SQL with its arguments: `$1` is the first.

    One with RETURNING is a check: where it gives no row, nothing of its write happens. One that
    only locks rows is for databases with more than one writer; the other passes it over.
    """

    __slots__ = ("arguments", "is_check", "is_lock", "sql")

    def __init__(self, sql: str, *arguments: Any) -> None:
        self.sql = sql
        self.arguments = arguments
        self.is_check, self.is_lock = _kind(sql)


@lru_cache(maxsize=512)
def _kind(sql: str) -> tuple[bool, bool]:
    return "RETURNING" in sql, sql.lstrip().startswith("SELECT")


def spoken(sql: str, words: Mapping[str, str]) -> str:
    """The SQL with a database's own words in it."""
    for word, meaning in words.items():
        sql = sql.replace(word, meaning)
    return sql
