"""A conversation with whatever `openai` this interpreter has; prints what was seen, as JSON.

`python conversation.py BASE_URL` talks to the built-in model; `... BASE_URL ASSISTANT_ID` streams
three runs of an assistant at once: one as it comes, one that is lost and taken up again, and one
that is taken up one event earlier. Plain Python: old SDKs have no pytest beside them.
"""

import json
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

warnings.simplefilter("ignore")

import openai  # noqa: E402
from openai import AssistantEventHandler, Stream  # noqa: E402
from openai.lib.streaming import AssistantStreamManager  # noqa: E402
from openai.types.beta import AssistantStreamEvent  # noqa: E402

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Handler(AssistantEventHandler):
    """Notes what the SDK makes of the events."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""

    def on_event(self, event) -> None:  # type: ignore[no-untyped-def]
        self.names.append(event.event)

    def on_text_delta(self, delta, snapshot) -> None:  # type: ignore[no-untyped-def]
        self.text += delta.value or ""


def talk(client: openai.OpenAI) -> dict[str, object]:
    """Every kind of call that an application makes."""
    beta = client.beta
    assistant = beta.assistants.create(
        model="demo",
        instructions="Be kind.",
        tools=[WEATHER],  # type: ignore[list-item]
    )
    thread = beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    polled = beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    seen: dict[str, object] = {"polled": polled.status}

    beta.threads.messages.create(thread.id, role="user", content="Call get_weather for Paris")
    asking = Handler()
    with beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=asking
    ) as stream:
        stream.until_done()
    run = asking.current_run
    assert run is not None
    assert run.required_action is not None
    calls = run.required_action.submit_tool_outputs.tool_calls
    seen["called"] = [[call.function.name, json.loads(call.function.arguments)] for call in calls]
    answering = Handler()
    with beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id,
        thread_id=thread.id,
        tool_outputs=[{"tool_call_id": call.id, "output": "sunny"} for call in calls],
        event_handler=answering,
    ) as stream:
        stream.until_done()
    newest = beta.threads.messages.list(thread.id, limit=1).data[0]
    seen["asking"] = asking.names
    seen["answering"] = list(dict.fromkeys(answering.names))
    seen["same_text"] = answering.text == newest.content[0].text.value  # type: ignore[union-attr]

    both = Handler()
    with beta.threads.create_and_run_stream(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Hi"}]},
        event_handler=both,
    ) as stream:
        stream.until_done()
    seen["created_and_run"] = list(dict.fromkeys(both.names))
    seen["created_and_polled"] = beta.threads.create_and_run_poll(assistant_id=assistant.id).status
    seen["iterated"] = list(
        dict.fromkeys(
            event.event
            for event in beta.threads.runs.create(
                thread_id=thread.id, assistant_id=assistant.id, stream=True
            )
        )
    )[-1]
    for number in range(5):
        beta.threads.messages.create(thread.id, role="user", content=f"Page {number}")
    seen["paged"] = len([*beta.threads.messages.list(thread.id, limit=2)])
    try:
        beta.threads.runs.retrieve("run_unknown", thread_id=thread.id)
    except openai.NotFoundError as refused:
        seen["unknown"] = refused.status_code
    seen["file"] = exchange_a_file(client)
    seen["deleted"] = [beta.threads.delete(thread.id).deleted]
    beta.assistants.delete(assistant.id)
    return seen


def exchange_a_file(client: openai.OpenAI) -> list[object]:
    """What comes back of a file, of its name and of one that is uploaded in parts."""
    file = client.files.create(file=("höhe.txt", b"hello"), purpose="assistants")
    content = client.files.content(file.id).read().decode()
    is_listed = file.id in [each.id for each in client.files.list(purpose="assistants")]
    is_deleted = client.files.delete(file.id).deleted
    seen = [file.filename, content, is_listed, is_deleted]
    if hasattr(client, "uploads"):
        upload = client.uploads.create(
            bytes=2, filename="a", mime_type="text/plain", purpose="assistants"
        )
        part = client.uploads.parts.create(upload.id, data=b"ab")
        seen.append(client.uploads.complete(upload.id, part_ids=[part.id]).status)
    return seen


def listen(client: openai.OpenAI, assistant_id: str) -> dict[str, object]:
    """One stream that is silent for a while."""
    handler = Handler()
    with client.beta.threads.create_and_run_stream(
        assistant_id=assistant_id,
        thread={"messages": [{"role": "user", "content": "Slowly"}]},
        event_handler=handler,
    ) as stream:
        stream.until_done()
    return {"text": handler.text, "last": handler.names[-1]}


def follow(client: openai.OpenAI, thread_id: str, run_id: str, after: int) -> object:
    """The events of a run past a number."""
    return client.get(
        f"/threads/{thread_id}/runs/{run_id}/events",
        cast_to=object,
        stream=True,
        stream_cls=Stream[AssistantStreamEvent],
        options={"params": {"starting_after": after}},
    )


def repeat(client: openai.OpenAI, assistant_id: str) -> dict[str, object]:
    """A silence behind an event, where a stream that resumes behind it begins with the silence."""
    return resume(client, assistant_id, earlier=1)


def resume(client: openai.OpenAI, assistant_id: str, *, earlier: int = 0) -> dict[str, object]:
    """A stream that is left at its first words, and two that go on: from there, and anew."""
    stream = client.beta.threads.create_and_run(
        assistant_id=assistant_id,
        thread={"messages": [{"role": "user", "content": "Slowly"}]},
        stream=True,
    )
    events = []
    for event in stream:
        events.append(event)
        if event.event == "thread.message.delta":
            break
    stream.close()
    run = next(event.data for event in events if event.event == "thread.run.created")
    del events[len(events) - earlier :]
    events += follow(client, run.thread_id, run.id, len(events))  # type: ignore[arg-type]
    handler = Handler()
    with AssistantStreamManager(
        lambda: follow(client, run.thread_id, run.id, 0),  # type: ignore[arg-type, return-value]
        event_handler=handler,
    ) as anew:
        message = anew.get_final_messages()[0]
    newest = client.beta.threads.messages.list(run.thread_id, limit=1).data[0]
    return {
        "text": handler.text,
        "last": events[-1].event,
        "same_events": [event.event for event in events] == handler.names,
        "same_message": message.content == newest.content,
    }


if __name__ == "__main__":
    the_client = openai.OpenAI(base_url=sys.argv[1], api_key="any", timeout=30, max_retries=0)
    if sys.argv[2:]:
        ways = {"silent": listen, "resumed": resume, "repeated": repeat}
        with ThreadPoolExecutor() as threads:
            heard = [threads.submit(way, the_client, sys.argv[2]) for way in ways.values()]
            print(json.dumps(dict(zip(ways, (each.result() for each in heard), strict=True))))
    else:
        print(json.dumps(talk(the_client)))
