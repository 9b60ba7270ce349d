"""Messages: what a request may say, and how it is shown."""

from typing import Any

import msgspec
import pytest

from rethread.contract import MAX_TEXT_CHARACTERS
from rethread.contract.messages import CreateMessage, Message, ModifyMessage
from rethread.contract.threads import MESSAGES_LIMIT, CreateThread
from rethread.errors import Invalid
from tests.objects import NOW


def asked(content: Any = "Hello", **fields: Any) -> CreateMessage:
    return msgspec.convert({"role": "user", "content": content, **fields}, CreateMessage)


def shown(content: Any = "Hello", **fields: Any) -> Any:
    message = Message.new(asked(content, **fields), thread_id="thread_a", now=NOW)
    return msgspec.json.decode(msgspec.json.encode(message))


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def image(**fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "https://x/y.png", **fields}}


def test_a_new_message_is_as_the_wire_shows_it() -> None:
    message = shown()
    assert message.pop("id").startswith("msg_")
    assert message == {
        "object": "thread.message",
        "created_at": NOW,
        "thread_id": "thread_a",
        "status": "completed",
        "incomplete_details": None,
        "completed_at": NOW,
        "incomplete_at": None,
        "role": "user",
        "content": [text("Hello")],
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }


def test_explicit_nulls_are_as_if_absent() -> None:
    nulls = shown(attachments=None, metadata=None)
    assert (nulls["attachments"], nulls["metadata"]) == ([], {})
    message = Message.new(asked(metadata={"a": "b"}), thread_id="thread_a", now=NOW)
    assert message.modified(ModifyMessage(metadata=None)) == message
    assert message.modified(ModifyMessage(metadata={})).metadata == {}


def test_parts_are_shown_in_their_order_and_images_with_their_detail() -> None:
    file = {"type": "image_file", "image_file": {"file_id": "file-a", "detail": "low"}}
    parts = [{"type": "text", "text": "a"}, image(), image(detail=None), file]
    assert shown(parts)["content"] == [
        text("a"),
        image(detail="auto"),
        image(detail="auto"),
        file,
    ]


def test_attachments_are_kept_as_they_are() -> None:
    attachments = [
        {"file_id": "file-a", "tools": [{"type": "file_search"}, {"type": "code_interpreter"}]}
    ]
    assert shown(attachments=attachments)["attachments"] == attachments


def test_a_text_may_have_so_many_characters_and_no_more() -> None:
    most = "ß" * MAX_TEXT_CHARACTERS
    assert shown(most)["content"] == [text(most)]
    for content in (f"{most}x", [{"type": "text", "text": f"{most}x"}]):
        with pytest.raises(msgspec.ValidationError):
            asked(content)


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ([], {}),
        (None, {}),
        ([{"type": "refusal", "refusal": "No."}], {}),
        ([{"type": "text", "text": {"value": "a", "annotations": []}}], {}),
        ([image(detail="best")], {}),
        ("a", {"role": "system"}),
        ("a", {"metadata": {"a": 1}}),
        ("a", {"metadata": {"k" * 65: "v"}}),
        ("a", {"metadata": {"k": "v" * 513}}),
        ("a", {"metadata": {str(n): "v" for n in range(17)}}),
        ("a", {"attachments": [{"file_id": "file-a", "tools": [{"type": "function"}]}]}),
        ("a", {"file_ids": []}),
    ],
)
def test_what_the_contract_does_not_have_is_refused(content: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        asked(content, **fields)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (asked([image(url="ftp://x/y.png")]), "content[0].image_url.url"),
        (asked([image(), image(url="/etc/passwd")]), "content[1].image_url.url"),
        (asked([image(url="data:text/html,x")]), "content[0].image_url.url"),
        (
            asked([{"type": "image_file", "image_file": {"file_id": "x"}}]),
            "content[0].image_file.file_id",
        ),
        (asked(attachments=[{"file_id": "vs_a", "tools": []}]), "attachments[0].file_id"),
    ],
)
def test_a_reference_that_cannot_be_is_refused_by_its_place(
    message: CreateMessage, param: str
) -> None:
    with pytest.raises(Invalid) as refused:
        message.check()
    assert refused.value.param == param
    with pytest.raises(Invalid) as refused:
        CreateThread(messages=[asked(), message]).check("thread.")
    assert refused.value.param == f"thread.messages[1].{param}"


@pytest.mark.parametrize("url", ["http://x/y", "HTTPS://x", "data:image/png;base64,AAAA"])
def test_images_come_by_http_or_in_the_url_itself(url: str) -> None:
    asked([image(url=url)]).check()


def test_a_new_thread_takes_no_more_messages_than_a_thread_can_have() -> None:
    said = CreateMessage(role="user", content="x")
    CreateThread(messages=[said] * MESSAGES_LIMIT).check()
    with pytest.raises(Invalid, match="maximum length 100000") as refused:
        CreateThread(messages=[said] * (MESSAGES_LIMIT + 1)).check("thread.")
    assert refused.value.param == "thread.messages"
