"""A filter on attributes as SQL: which files of a store it lets through.

Each comparison is a set of files, read from the index of that attribute, and asked for once. The
values go along as one JSON text, so that the SQL depends on the shape of the filter alone.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from rethread.contract.filters import And, Eq, Filter, Gt, Gte, In, Lt, Lte, Ne, Nin, Or
from rethread.contract.vector_stores import kept_text

Dialect = Literal["sqlite", "postgresql"]
Kind = Literal["text", "number", "boolean"]
Value = str | int | float | bool

# differs: each has its own way into JSON.
ONE: Final = {
    "sqlite": "(SELECT json_extract($2, '$[{place}]'))",
    "postgresql": "(SELECT CAST(CAST($2 AS JSON) ->> {place} AS {type}))",
}
SEVERAL: Final = {
    "sqlite": "(SELECT value FROM json_each($2, '$[{place}]'))",
    "postgresql": (
        "(SELECT CAST(value AS {type})"
        " FROM json_array_elements_text(CAST($2 AS JSON) -> {place}) AS listed (value))"
    ),
}
HAVING: Final = (
    "files.number {membership} (SELECT file_number FROM file_attributes"
    " WHERE store_id = $1 AND key = {key} AND ({tests}))"
)
COLUMNS: Final[dict[Kind, tuple[str, str]]] = {
    "text": ("text_value", "TEXT"),
    "number": ("number_value", "DOUBLE PRECISION"),
    "boolean": ("number_value", "DOUBLE PRECISION"),
}
SIGNS: Final[dict[type, str]] = {Eq: "=", Ne: "=", Gt: ">", Gte: ">=", Lt: "<", Lte: "<="}


class Condition(NamedTuple):
    """SQL about `files`, in which $1 is the store's id and $2 the values."""

    sql: str
    values: str


def condition(dialect: Dialect, filter: Filter) -> Condition:
    """What is true of the files that the filter lets through."""
    compiler = _Compiler(dialect)
    # An empty filter has no values: PostgreSQL wants $2 to be somewhere all the same.
    sql = f"$2 <> '' AND {compiler.compiled(filter)}"
    return Condition(sql, msgspec.json.encode(compiler.values).decode())


class _Compiler:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.values: list[str | float | Sequence[str | float]] = []

    def compiled(self, filter: Filter) -> str:
        match filter:
            case And():
                parts = [self.compiled(each) for each in filter.filters]
                return f"({' AND '.join(parts)})" if parts else "(1 = 1)"
            case Or():
                parts = [self.compiled(each) for each in filter.filters]
                return f"({' OR '.join(parts)})" if parts else "(1 = 0)"
            case In() | Nin():
                tests = self._tests_of_several(filter.value)
                return self._having(filter.key, tests, is_negated=isinstance(filter, Nin))
            case Eq() | Ne() | Gt() | Gte() | Lt() | Lte():
                tests = [self._test(SIGNS[type(filter)], filter.value)]
                return self._having(filter.key, tests, is_negated=isinstance(filter, Ne))

    def _having(self, key: str, tests: Sequence[str], *, is_negated: bool) -> str:
        return HAVING.format(
            membership="NOT IN" if is_negated else "IN",
            key=self._placed(ONE, kept_text(key), "TEXT"),
            tests=" OR ".join(tests) or "1 = 0",
        )

    def _test(self, sign: str, value: Value) -> str:
        kind, kept = _kept(value)
        column, type_ = COLUMNS[kind]
        return f"kind = '{kind}' AND {column} {sign} {self._placed(ONE, kept, type_)}"

    def _tests_of_several(self, values: Sequence[Value]) -> list[str]:
        by_kind: dict[Kind, list[str | float]] = {}
        for kind, kept in map(_kept, values):
            by_kind.setdefault(kind, []).append(kept)
        tests = []
        for kind, listed in by_kind.items():
            column, type_ = COLUMNS[kind]
            wanted = self._placed(SEVERAL, listed, type_)
            tests.append(f"(kind = '{kind}' AND {column} IN {wanted})")
        return tests

    def _placed(
        self, way: dict[str, str], value: str | float | Sequence[str | float], type_: str
    ) -> str:
        self.values.append(value)
        return way[self._dialect].format(place=len(self.values) - 1, type=type_)


def _kept(value: Value) -> tuple[Kind, str | float]:
    match value:
        case str():
            return "text", kept_text(value)
        case bool():
            return "boolean", float(value)
        case _:
            return "number", float(value)
