"""Links to files of code are found wherever the stream cuts them, and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rethread.tools.annotating import Annotating, Piece
from rethread.tools.code_interpreter.links import Links, link
from rethread.tools.file_search.citations import Citations

BASE = "sandbox:/mnt/data/"
FILES = {
    "a.csv": "file-a",
    "a.csv.gz": "file-gz",
    "dir/a.csv": "file-dir",
    "my file (1).txt": "file-my",
    "50%.csv": "file-50",
    "größe 🎉.png": "file-party",
}
MARK = "【0:0†a.md】"
# Texts full of links, beginnings of links, and what only looks like one.
TEXTS = st.lists(
    st.sampled_from(
        [BASE, "sandbox:", "/mnt/data/", "sand", "a.csv", ".gz", ".", "50%", "%25", "my%20", ")"]
        + ["file (1).txt", " ", "[", "](", "\n", MARK, "【0:"]
        + [BASE + path for path in FILES]
        + [link(path) for path in FILES]
    ),
    max_size=10,
).map("".join)


def read(*pieces: str) -> list[Piece]:
    """What a text in these pieces is found to be, neighbouring text as one."""
    annotating = Annotating(Citations({MARK: "file-cited"}), Links(FILES))
    found = [piece for text in pieces for piece in annotating.feed(text)] + annotating.end()
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
    found = read(*(text[start:end] for start, end in ends))
    assert found == read(text) == read(*text)
    assert "".join(piece.text for piece in found) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"[a]({BASE}a.csv) and {BASE}a.csv.", [(f"{BASE}a.csv", "file-a")] * 2),
        (f"[a]({BASE}a.csv.gz)", [(f"{BASE}a.csv.gz", "file-gz")]),
        (f"[a]({BASE}dir/a.csv)", [(f"{BASE}dir/a.csv", "file-dir")]),
        (f"[a](<{BASE}my file (1).txt>)", [(f"{BASE}my file (1).txt", "file-my")]),
        (f"[a]({BASE}my%20file%20(1).txt)", [(f"{BASE}my%20file%20(1).txt", "file-my")]),
        (f"[a]({BASE}50%25.csv)", [(f"{BASE}50%25.csv", "file-50")]),
        (f"{BASE}gr%c3%b6%C3%9Fe%20🎉.png", [(f"{BASE}gr%c3%b6%C3%9Fe%20🎉.png", "file-party")]),
        (f"{BASE}a.csvs {BASE}a.csv.bz2 {BASE}a.csv/b {BASE}other.csv {BASE}A.csv", []),
        (f"sandbox:{BASE}a.csv{MARK}", [(f"{BASE}a.csv", "file-a"), (MARK, "file-cited")]),
    ],
)
def test_a_link_is_annotated_as_it_stands(text: str, found: list[tuple[str, str]]) -> None:
    assert [(piece.text, piece.file_id) for piece in read(*text) if piece.file_id] == found


def test_text_is_held_back_only_while_it_may_become_a_link() -> None:
    annotating = Annotating(Links({"a b.csv": "file-a"}))
    assert annotating.feed("A sand") == [Piece("A ")]
    assert annotating.feed("wich ") == [Piece("sandwich ")]
    assert annotating.feed(f"{BASE}a%2") == []
    assert annotating.feed("2") == [Piece(f"{BASE}a%22")]
    assert annotating.feed(f"({BASE}a%20b.csv") == [Piece("(")]
    assert annotating.feed(")") == [Piece(f"{BASE}a%20b.csv", "file-a", is_path=True), Piece(")")]
    assert annotating.feed(f"{BASE}a") == []
    assert annotating.end() == [Piece(f"{BASE}a")]
