"""The code of a call is the same however its arguments are cut, and is known as it is written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rethread.tools.code_interpreter.written import NO_CODE, Written

CODE = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            ["a = ", '"', "'", "\\", "\\n", "\\u00e9", "é", "🎉", "\\ud83d", "{", "}", "\0", "\n"]
        ),
        max_size=15,
    ).map("".join),
)


def read(*pieces: str) -> tuple[str, Written]:
    """What was heard of the code in all, and what is known at the end."""
    written = Written()
    heard = "".join([written.feed(piece) for piece in pieces]) + written.end()
    return heard, written


def cut(text: str, data: st.DataObject) -> list[str]:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@given(code=CODE, data=st.data())
def test_code_is_read_as_it_was_meant_however_it_is_cut(code: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(["code", "input", "python", "source", "other"]))
    ascii_only = data.draw(st.booleans())
    given_ = {key: code} | data.draw(st.sampled_from([{}, {"timeout": 5}]))
    arguments = json.dumps(
        given_, ensure_ascii=ascii_only, indent=data.draw(st.none() | st.just(1))
    )
    heard, written = read(*cut(arguments, data))
    assert heard == written.code == code
    assert written.problem == ("" if code.strip() else NO_CODE)


@given(code=CODE, data=st.data())
def test_nothing_but_the_code_is_understood_too(code: str, data: st.DataObject) -> None:
    bare = "import os\n" + code
    heard, written = read(*cut(bare, data))
    assert (heard, written.code, written.problem) == (bare, bare, "")
    heard, written = read(*cut(json.dumps(bare), data))
    assert (heard, written.code, written.problem) == (bare, bare, "")


@given(arguments=CODE, data=st.data())
def test_whatever_comes_is_read_to_the_same_in_any_pieces(
    arguments: str, data: st.DataObject
) -> None:
    arguments = data.draw(st.sampled_from(["", '{"code": "', '{"', '"'])) + arguments
    whole, at_once = read(arguments)
    heard, written = read(*cut(arguments, data))
    assert heard == written.code == whole == at_once.code
    assert written.problem == at_once.problem
    written.code.encode()


def test_code_is_known_as_soon_as_it_is_written() -> None:
    written = Written()
    pieces = [
        '{"co',
        'de": "',
        "a = ",
        "'\\",
        'n\\"',
        "\\u00",
        "e9\\ud8",
        "3d\\ude",
        "00",
        '"',
        "}",
    ]
    assert [written.feed(piece) for piece in pieces] == (
        ["", "", "a = ", "'", '\n"', "", "é", "", "😀", "", ""]
    )
    assert (written.end(), written.code, written.problem) == ("", "a = '\n\"é😀", "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ('{"code": "a\nb"}', "a\nb"),  # a line break as it is
        ('{"language": "python", "code": "a"}', "a"),
        ('{"script": "a"}', "a"),
        ('"{\\"code\\": \\"a\\"}"', "a"),  # JSON in JSON
        ('"""doc"""\nprint(1)', '"""doc"""\nprint(1)'),
        ('{"code": "a\\ud83d b"}', "a\N{REPLACEMENT CHARACTER} b"),
        ('  \n{"code" : "a"} ', "a"),
    ],
)
def test_odd_forms_are_understood(arguments: str, code: str) -> None:
    assert [read(*pieces)[0] for pieces in ([arguments], arguments)] == [code, code]
    assert read(arguments)[1].problem == ""


@pytest.mark.parametrize(
    "arguments",
    ['{"code": "a', '{"code": "print("a")"}', '{"code": a}', '{"code": "a"}}', '{"code": "\\d"}'],
)
def test_what_cannot_be_read_is_no_code_and_says_what_to_do(arguments: str) -> None:
    assert read(arguments)[1].problem.startswith("The code was not run: the arguments")


@pytest.mark.parametrize("arguments", ["", " ", "{}", '{"code": ""}', '{"code": 5}', '""'])
def test_without_code_the_model_is_told_so(arguments: str) -> None:
    assert read(arguments)[1].problem == NO_CODE
