"""What counts as a word, and the snippet that shows where it stands."""
# ruff: noqa: RUF001 - letters that look alike are what this is about

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rethread.store.words import MAX_WORD_CHARACTERS, phrases_of, snippet, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("¡…! 🎉 -- ", []),
        ("The Lighthouse, Keeper's!", ["the", "lighthouse", "keeper", "s"]),
        ("snake_case x1 3.14", ["snake_case", "x1", "3", "14"]),
        ("Café CAFE\u0301 ÅNGSTRÖM", ["cafe", "cafe", "angstrom"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("İstanbul ISTANBUL", ["istanbul", "istanbul"]),
        ("ΣΊΣΥΦΟΣ Σίσυφος ᾳ", ["σισυφοσ", "σισυφοσ", "α"]),
        ("ﬁne ２０２６ ½", ["fine", "2026", "1", "2"]),
        ("co\u00adoperate", ["cooperate"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("ｶﾞガか\u3099", ["ガ", "ガ", "が"]),
        ("한국어 \u1112\u1161\u11ab", ["한", "국", "어", "한"]),
        ("GPT4と日本", ["gpt4", "と", "日", "本"]),
        ("हिन्दी", ["हिनदी"]),
        ("שָׁלוֹם", ["שלום"]),
        ("1\ufe0f\u20e3 ❤\ufe0f", ["1"]),
        ("a\0b", ["a", "b"]),
        ("x" * 100, ["x" * MAX_WORD_CHARACTERS]),
    ],
)
def test_words_are_those_that_a_reader_would_count(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text())
@settings(derandomize=True, deadline=None)
def test_words_are_made_of_nothing_that_either_database_could_divide(text: str) -> None:
    for word in words_of(text):
        assert word
        assert all(letter.isalnum() or letter == "_" or ord(letter) > 127 for letter in word)
        assert words_of(word) == [word]


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("Blue  whale", [("blue",), ("whale",)]),
        ('"Blue whale" song', [("blue", "whale"), ("song",)]),
        ('blue "whale', [("blue",), ("whale",)]),
        ("whale Whale WHALE", [("whale",)]),
        ("e-mail user@example.com", [("e", "mail"), ("user", "example", "com")]),
        ("東京 塔", [("東", "京"), ("塔",)]),
        ('" " ? "!"', []),
        ("AND OR NOT", [("and",), ("or",), ("not",)]),
        ("words:* ^x (a) 'b' & c | !d <-> \\", [("words",), *[(x,) for x in "xabcd"]]),
    ],
)
def test_a_query_asks_for_words_and_phrases_and_has_no_other_language(
    query: str, phrases: list[tuple[str, ...]]
) -> None:
    assert sorted(phrases_of(query)) == sorted(phrases)


@pytest.mark.parametrize(
    ("text", "query", "shown"),
    [
        ("The Blue\n\twhale sings.", "blue", "The **Blue** whale sings."),
        ("The blue whale, a BLUE one", "blue", "The **blue** whale, a **BLUE** one"),
        ("The blue whale", '"blue whale"', "The **blue whale**"),
        ("A whale, blue", '"blue whale"', "A whale, blue"),
        ("Un café, deux cafe\u0301s", "cafes CAFE", "Un **café**, deux **cafe\u0301s**"),
        ("私は東京に住む", "東京", "私は**東京**に住む"),
        ("Write to user@example.com!", "USER@example.com", "Write to **user@example.com**!"),
        ("It is **bold** here", "bold", "It is **bold** here"),
        ("Straße **x", "strasse", "**Straße** x"),
        ("ab\0cd", "cd", "ab\0**cd**"),
        ("", "x", ""),
    ],
)
def test_a_snippet_marks_what_matches(text: str, query: str, shown: str) -> None:
    assert snippet(text, phrases_of(query)) == shown


def test_a_snippet_of_a_long_text_is_cut_between_words_around_the_first_match() -> None:
    text = f"{'before ' * 1000}needle {'after ' * 1000}needle"
    shown = snippet(text, phrases_of("needle"))
    assert shown.startswith("… before ")
    assert shown.endswith(" after …")
    assert shown.count("**needle**") == 1
    assert 130 <= len(shown) <= 180


@pytest.mark.parametrize("length", range(1980, 2020))
def test_a_match_is_marked_whole_wherever_it_stands(length: int) -> None:
    text = f"{'x' * length} lighthouse keeper"
    assert "**lighthouse**" in snippet(text, phrases_of("lighthouse"))
    assert "**lighthouse keeper**" in snippet(text, phrases_of('"lighthouse keeper"'))


@given(st.text(alphabet="aB é\u0301東京\n*\u00ad\u1112\u1161ß", max_size=300), st.data())
@settings(derandomize=True, deadline=None)
def test_a_snippet_marks_any_word_of_its_text(text: str, data: st.DataObject) -> None:
    words = words_of(text)
    if words:
        word = data.draw(st.sampled_from(words))
        shown = snippet(text, [(word,)])
        assert "**" in shown
        assert word in {marked for part in shown.split("**")[1::2] for marked in words_of(part)}
