"""A message with an image in it, and metadata to find things again by."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)

# One red pixel. A data: URL goes to the model server as it is, as does one with https.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ"
    "/pLvAAAAAElFTkSuQmCC"
)

assistant = client.beta.assistants.create(model="demo", metadata={"team": "support"})
thread = client.beta.threads.create(metadata={"customer": "4711"})
client.beta.threads.messages.create(
    thread.id,
    role="user",
    content=[
        {"type": "text", "text": "What do you see?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ],
    metadata={"channel": "mail"},
)
run = client.beta.threads.runs.create_and_poll(
    thread_id=thread.id, assistant_id=assistant.id, metadata={"reason": "first question"}
)
print(run.status, run.metadata)

# What a run wrote, and nothing else.
for message in client.beta.threads.messages.list(thread.id, run_id=run.id):
    part = message.content[0]
    print(part.text.value if part.type == "text" else part.type)

thread = client.beta.threads.update(thread.id, metadata={"customer": "4711", "done": "yes"})
print(thread.metadata)

# Output:
#
# completed {'reason': 'first question'}
# I am rethread's built-in demo model: I do not think, I only show that everything works. You
#     said: «What do you see?». I saw 1 image. To get real answers, start rethread with
#     --upstream.
# {'customer': '4711', 'done': 'yes'}
