"""Ids: OpenAI's shapes, refused in OpenAI's words, and in the order in which they were made."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rethread.contract import Prefix, check_id, new_id
from rethread.errors import Invalid

SHAPES: dict[Prefix, str] = {
    "asst": "asst_[0-9A-Za-z]{24}",
    "thread": "thread_[0-9A-Za-z]{24}",
    "msg": "msg_[0-9A-Za-z]{24}",
    "run": "run_[0-9A-Za-z]{24}",
    "step": "step_[0-9A-Za-z]{24}",
    "call": "call_[0-9A-Za-z]{24}",
    "file": "file-[0-9A-Za-z]{22}",
    "vs": "vs_[0-9a-f]{32}",
    "vsfb": "vsfb_[0-9a-f]{32}",
    "upload": "upload_[0-9a-f]{32}",
    "part": "part_[0-9a-f]{32}",
}


@pytest.mark.parametrize("prefix", SHAPES)
def test_an_id_looks_as_openais_do(prefix: Prefix) -> None:
    for _ in range(200):
        id = new_id(prefix)
        assert re.fullmatch(SHAPES[prefix], id)
        assert check_id(id, prefix, param="x") == id


def test_no_two_ids_are_the_same() -> None:
    ids = [new_id("msg") for _ in range(50_000)]
    assert len(set(ids)) == len(ids)


def test_ids_made_one_after_the_other_stay_together() -> None:
    times = [new_id("msg")[4:11] for _ in range(5_000)]
    assert times == sorted(times)


@pytest.mark.parametrize("value", ["undefined", "", "asst_abc", "Thread_abc", " thread_abc"])
def test_another_kind_of_id_is_refused_in_openais_words(value: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_id(value, "thread", param="thread_id")
    assert str(refused.value) == (
        f"Invalid 'thread_id': '{value}'. Expected an ID that begins with 'thread'."
    )
    assert (refused.value.param, refused.value.code) == ("thread_id", "invalid_value")


@settings(derandomize=True, deadline=None, max_examples=300)
@given(rest=st.text(max_size=6))
def test_an_id_has_letters_numbers_underscores_and_dashes(rest: str) -> None:
    value = f"thread{rest}"
    if re.fullmatch(r"[A-Za-z0-9_-]*", rest):
        assert check_id(value, "thread", param="x") == value
    else:
        with pytest.raises(Invalid, match="letters, numbers, underscores, or dashes"):
            check_id(value, "thread", param="x")


@pytest.mark.parametrize("rest", ["_a/../b", "_a.b", "_a\n", "_a\0", "_é", "_a b", "_a%2F"])
def test_what_means_something_elsewhere_is_no_id(rest: str) -> None:
    with pytest.raises(Invalid):
        check_id(f"thread{rest}", "thread", param="x")


@pytest.mark.parametrize("value", ["x" * 1_000_000, "thread_" + "é" * 1_000_000])
def test_a_wrong_id_is_given_back_shortened(value: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_id(value, "thread", param="x")
    assert len(refused.value.message) < 500
    assert f"'{value[:100]}…'" in refused.value.message
