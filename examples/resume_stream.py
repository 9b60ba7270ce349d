"""A stream breaks after its first words and goes on: no event is missing, none comes twice.

The events of a run are numbered 1, 2, 3 and so on. Who has counted knows where to go on.
"""

import os
from collections.abc import Iterator

from openai import APIConnectionError, OpenAI, Stream
from openai.types.beta import AssistantStreamEvent

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)


def follow(thread_id: str, run_id: str, after: int) -> Iterator[AssistantStreamEvent]:
    """The run's events behind that many, over as many connections as it takes."""
    while True:
        stream = client.get(
            f"/threads/{thread_id}/runs/{run_id}/events",
            cast_to=object,
            stream=True,
            stream_cls=Stream[AssistantStreamEvent],
            options={"params": {"starting_after": after}},
        )
        try:
            with stream:
                for event in stream:
                    after += 1
                    yield event
            return
        except APIConnectionError:
            continue


def words(event: AssistantStreamEvent) -> str:
    """What a piece of the answer says; nothing for other events."""
    if event.event != "thread.message.delta":
        return ""
    parts = event.data.delta.content or []
    return "".join(part.text.value or "" for part in parts if part.type == "text" and part.text)


assistant = client.beta.assistants.create(model="demo", instructions="Answer in one sentence.")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Tell me a story."}])

answer, count, run_id = "", 0, ""
stream = client.beta.threads.runs.create(thread.id, assistant_id=assistant.id, stream=True)
for event in stream:
    count += 1
    if event.event == "thread.run.created":
        run_id = event.data.id
    answer += words(event)
    if answer:
        break
stream.close()
print("[the connection breaks after the first words]")

for event in follow(thread.id, run_id, count):
    answer += words(event)
    last = event.event
print(f"[{last}]")
print(answer)

message = client.beta.threads.messages.list(thread.id).data[0].content[0]
assert message.type == "text"
print("[the same as the stored message]" if answer == message.text.value else "[different!]")

# Output:
#
# [the connection breaks after the first words]
# [thread.run.completed]
# I am rethread's built-in demo model: I do not think, I only show that everything works. You said:
#     «Tell me a story.». To get real answers, start rethread with --upstream.
# [the same as the stored message]
