"""Marks in an answer are found wherever the stream cuts it, and nothing else is taken for one."""

from hypothesis import given
from hypothesis import strategies as st

from rethread.tools.annotating import Annotating, Piece
from rethread.tools.file_search.citations import Citations

FILES = {"【0:0†a.md】": "file-a", "【0:1†b (1).md】": "file-b", "【10:0†a.md】": "file-a"}
# As models vary them.
VARIED = {"【0:0】": "file-a", "【0:1†source】": "file-b", "【10:0†】": "file-a"}
# Texts full of marks, beginnings of marks, and what only looks like one.
TEXTS = st.lists(
    st.sampled_from(
        [*FILES, *VARIED, "【", "】", "【0:", "0:0†a.md】", "【0:7†a.md】", "word ", "🎉", "\n"]
    ),
    max_size=12,
).map("".join)


def read(*pieces: str) -> list[Piece]:
    """What a text in these pieces is found to be, neighbouring text as one."""
    citations = Annotating(Citations(FILES))
    found = [piece for text in pieces for piece in citations.feed(text)] + citations.end()
    joined: list[Piece] = []
    for piece in found:
        if joined and joined[-1].file_id is None and piece.file_id is None:
            joined[-1] = Piece(joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return joined


@given(TEXTS, st.data())
def test_however_a_text_is_cut_the_same_is_found(text: str, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=len(text)).map(sorted))
    ends = zip([0, *places], [*places, len(text)], strict=True)
    assert read(*(text[start:end] for start, end in ends)) == read(text)


@given(TEXTS)
def test_nothing_is_lost_and_each_mark_is_found(text: str) -> None:
    pieces = read(*text)
    assert "".join(piece.text for piece in pieces) == text
    cited = [piece for piece in pieces if piece.file_id is not None]
    assert [piece.file_id for piece in cited] == [
        {**FILES, **VARIED}[piece.text] for piece in cited
    ]
    assert len(cited) == sum(text.count(mark) for mark in [*FILES, *VARIED])


def test_text_is_held_back_only_while_it_may_become_a_mark() -> None:
    citations = Annotating(Citations(FILES))
    assert citations.feed("See ") == [Piece("See ")]
    assert citations.feed("it【0:") == [Piece("it")]
    assert citations.feed("1†b") == []
    assert "".join(piece.text for piece in citations.feed("\n")) == "【0:1†b\n"
    assert citations.feed("【1") == []
    assert "".join(piece.text for piece in citations.feed("1")) == "【11"
    assert citations.feed("【0:7") == [Piece("【0:7")]
    assert citations.feed("【10:0†a.md】!") == [Piece("【10:0†a.md】", "file-a"), Piece("!")]
    assert citations.feed("【0") == []
    assert citations.end() == [Piece("【0")]


def test_the_numbers_count_where_the_name_is_another() -> None:
    files = {"【0:0†new.md】": "file-new", "【0:0†old.md】": "file-old"}
    of_two_runs = Annotating(Citations(files))
    found = of_two_runs.feed("【0:0†old.md】【0:0†source】【0:0】")
    assert [piece.file_id for piece in found] == ["file-old", "file-new", "file-new"]
