"""An answer from your own files, streamed, with what it cites as footnotes."""

import os
from typing import Any

from openai import AssistantEventHandler, OpenAI

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)

HANDBOOK = b"""# Kettle

The warranty of the kettle is three years. Descale it once a month.

# Toaster

The toaster has a warranty of one year. Empty the tray every week.
"""


class Footnotes(AssistantEventHandler):
    """Prints the answer as it comes, with a number in the place of each mark."""

    def __init__(self) -> None:
        super().__init__()
        self.cited: list[str] = []

    def on_tool_call_created(self, tool_call: Any) -> None:
        print(f"[{tool_call.type}]")

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        for annotation in delta.annotations or []:
            self.cited.append(annotation.file_citation.file_id)
            delta.value = delta.value.replace(annotation.text, f"[{len(self.cited)}]")
        print(delta.value, end="")


store = client.vector_stores.create(name="Manuals")
file = client.vector_stores.files.upload_and_poll(
    vector_store_id=store.id, file=("handbook.md", HANDBOOK)
)
print(file.status)

assistant = client.beta.assistants.create(
    model="demo",
    tools=[{"type": "file_search"}],
    tool_resources={"file_search": {"vector_store_ids": [store.id]}},
)
thread = client.beta.threads.create(
    messages=[{"role": "user", "content": "How long is the warranty of the toaster?"}]
)
handler = Footnotes()
with client.beta.threads.runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
) as stream:
    stream.until_done()
print()
for number, file_id in enumerate(handler.cited, 1):
    print(f"[{number}] {client.files.retrieve(file_id).filename}")

# A file can come with a message, too: it goes into a store of the thread's own.
note = client.files.create(file=("note.txt", b"Our new printer is blue."), purpose="assistants")
client.beta.threads.messages.create(
    thread.id,
    role="user",
    content="And what colour is the printer?",
    attachments=[{"file_id": note.id, "tools": [{"type": "file_search"}]}],
)
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
answer = client.beta.threads.messages.list(thread.id, run_id=run.id).data[0].content[0]
if answer.type == "text":
    print(answer.text.value)

# Output:
#
# completed
# [file_search]
# The toaster has a warranty of one year. [1] To get real answers, start rethread with --upstream.
# [1] handbook.md
# Our new printer is blue. 【0:1†note.txt】 To get real answers, start rethread with --upstream.
