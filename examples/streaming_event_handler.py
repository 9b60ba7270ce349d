"""An answer word by word: the SDK calls a method of the handler for everything that happens."""

import os

from openai import AssistantEventHandler, OpenAI
from openai.types.beta.threads import Message, Text, TextDelta
from openai.types.beta.threads.runs import RunStep

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)


class Printer(AssistantEventHandler):
    def on_run_step_created(self, run_step: RunStep) -> None:
        print(f"[a step begins: {run_step.type}]")

    def on_text_created(self, text: Text) -> None:
        print("assistant: ", end="", flush=True)

    def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        print(delta.value, end="", flush=True)

    def on_message_done(self, message: Message) -> None:
        print(f"\n[the message is {message.status}]")


assistant = client.beta.assistants.create(model="demo", instructions="Answer in one sentence.")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Tell me a story."}])

with client.beta.threads.runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=Printer()
) as stream:
    stream.until_done()

# Output:
#
# [a step begins: message_creation]
# assistant: I am rethread's built-in demo model: I do not think, I only show that everything
#     works. You said: «Tell me a story.». To get real answers, start rethread with --upstream.
# [the message is completed]
