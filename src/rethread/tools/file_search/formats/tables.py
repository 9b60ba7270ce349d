"""Rows as lines, each with the names of its columns: any part of a table says what it is."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

SPACES: Final = re.compile(r"\s+")
NUMBER: Final = re.compile(r"[-+]?[\d.,:/ ]*\d[\d.,:/ ]*%?")


def lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A line a row: `Name: Ann | City: Oslo`; without the names where the first row has none."""
    clean = ([SPACES.sub(" ", cell).strip() for cell in row] for row in rows)
    filled = (row for row in clean if any(row))
    first = next(filled, None)
    if first is None:
        return
    if not _is_header(first):
        yield from map(_plain, chain([first], filled))
        return
    yield _plain(first)
    for row in filled:
        yield _named(first, row)


def _is_header(row: Sequence[str]) -> bool:
    """Whether these can be names: more than one, all different, none a number or a date."""
    names = [cell for cell in row if cell]
    return (
        len(names) > 1 and len(set(names)) == len(names) and not any(map(NUMBER.fullmatch, names))
    )


def _plain(row: Sequence[str]) -> str:
    return " | ".join(row)


def _named(names: Sequence[str], row: Sequence[str]) -> str:
    padded = chain(names, [""] * (len(row) - len(names)))
    pairs = zip(padded, row, strict=False)
    return " | ".join(f"{name}: {cell}" if name else cell for name, cell in pairs if cell)
