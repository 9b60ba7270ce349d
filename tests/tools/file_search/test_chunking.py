"""How a document's text is divided: what always holds, and where it is cut."""

from array import array
from bisect import bisect_left
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rethread import tokens
from rethread.store.words import words_of
from rethread.tools.file_search.chunking import Chunk, chunked
from rethread.tools.file_search.documents import Document, Kind, Unreadable
from rethread.tools.file_search.reach import reach

ROOT: Final = Path(__file__).parents[3]
KINDS: Final[tuple[Kind, ...]] = (
    "prose",
    "markdown",
    "latex",
    "restructured",
    "code",
    "table",
)

pieces = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["\n", "\n\n", " ", "# Title\n", "```\n", "def f():\n", "    ", "It is so. "]),
    st.sampled_from(["漢字仮名", "🧑‍🚀", "ꙮ", "a" * 20, "1234567890", "a\u0301\u0302", "\u3000"]),
)
texts = st.lists(st.tuples(pieces, st.integers(1, 40)), max_size=20).map(
    lambda parts: "".join(piece * times for piece, times in parts).replace("\0", " ")
)


def divided(text: str, kind: Kind = "prose", *, most: int = 100, overlap: int = 50) -> list[Chunk]:
    return list(chunked(Document(text, kind), max_tokens=most, overlap_tokens=overlap))


@settings(max_examples=150, deadline=None)
@given(text=texts, kind=st.sampled_from(KINDS), most=st.integers(20, 120), part=st.integers(0, 10))
def test_chunks_are_slices_within_the_budget_that_cover_all_that_is_written(
    text: str, kind: Kind, most: int, part: int
) -> None:
    overlap = most // 2 * part // 10
    chunks = divided(text, kind, most=most, overlap=overlap)
    covered = 0
    for chunk in chunks:
        end = chunk.start + len(chunk.text)
        assert chunk.text == text[chunk.start : end]
        assert tokens.count(chunk.text) <= most
        assert chunk.words == " ".join(words_of(chunk.text))
        assert not text[covered : chunk.start].strip()
        assert end > covered
        covered = end
    assert not text[covered:].strip()
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(set(starts))


@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_so_many_tokens_reach_so_far(text: str) -> None:
    places = reach(text, most_tokens=10**6)
    assert places is not None
    assert len(places) - 1 == tokens.count(text)
    assert list(places) == sorted(places)
    encoded = array("I", tokens.encoded(text))
    every = 1 + len(places) // 100  # of a long text some: each looks at all in front of it
    for number, place in islice(enumerate(places), 0, None, every):
        front = b"".join(map(tokens.spelled, encoded[:number]))
        assert text[:place] == front.decode(errors="ignore") or number > bisect_left(places, place)


@given(text=st.text())
def test_what_looks_like_no_text_is_text(text: str) -> None:
    assert tokens.count(f"{text}<|endoftext|>") > tokens.count(text) + 2


def test_prose_overlaps_about_as_asked_and_ends_with_sentences() -> None:
    text = " ".join(f"This is the sentence with the number {number}." for number in range(2000))
    chunks = divided(text, most=800, overlap=400)
    places = reach(text, most_tokens=10**6)
    assert places is not None
    for earlier, later in pairwise(chunks):
        end = earlier.start + len(earlier.text)
        shared = bisect_left(places, end) - bisect_left(places, later.start)
        assert 300 <= shared <= 400
        assert earlier.text.endswith(".")
        assert tokens.count(earlier.text) > 780
    assert all(chunk.text.lstrip().startswith("This is") for chunk in chunks)


def test_markdown_is_cut_before_headings_but_not_within_code() -> None:
    sections = [
        f"## Section {n}\n\n" + "Words of it. " * 40 + "\n\n```sh\n# a comment\nmake\n```\n\n"
        for n in range(30)
    ]
    chunks = divided("".join(sections), "markdown", most=400, overlap=0)
    assert len(chunks) > 10
    assert all(chunk.text.startswith("## Section") for chunk in chunks)


def test_code_is_cut_before_definitions() -> None:
    code = (ROOT / "src" / "rethread" / "store" / "words.py").read_text("utf-8")
    chunks = divided(code, "code", most=800, overlap=0)
    first_lines = [chunk.text.splitlines()[0] for chunk in chunks[1:]]
    at_the_margin = [line for line in first_lines if line == line.lstrip()]
    assert len(at_the_margin) >= len(first_lines) - 1 > 0  # a long function may be cut


def test_a_table_is_cut_between_rows() -> None:
    rows = [f"Name: Person {number} | City: Oslo" for number in range(1000)]
    for chunk in divided("\n".join(rows), "table"):
        assert set(chunk.text.splitlines()) <= set(rows)


def test_a_chunk_knows_the_page_on_which_it_begins() -> None:
    pages = [f"Page {number}. " + "Some words of it. " * 20 for number in range(1, 6)]
    places = [sum(map(len, pages[:number])) for number in range(5)]
    document = Document("".join(pages), "prose", tuple(places))
    chunks = list(chunked(document, max_tokens=100, overlap_tokens=0))
    assert {chunk.page for chunk in chunks} == {1, 2, 3, 4, 5}
    for chunk in chunks:
        assert chunk.page is not None
        assert places[chunk.page - 1] <= chunk.start + 1


def test_a_file_has_five_million_tokens_at_most() -> None:
    with pytest.raises(Unreadable, match="more than 5000000 tokens") as refused:
        divided("hello " * 5_000_001)
    assert refused.value.code == "invalid_file"
