"""An assistant answers a message: the five objects of the API, one after the other."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)

assistant = client.beta.assistants.create(
    model="demo",
    name="Math tutor",
    instructions="You are a patient math tutor. Show every step.",
)
thread = client.beta.threads.create()
client.beta.threads.messages.create(thread.id, role="user", content="How do I solve 3x + 11 = 14?")

# Waits until the run has come to rest, and asks the server only as often as it must.
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
print(f"The run is {run.status}.")

for message in client.beta.threads.messages.list(thread.id, order="asc"):
    for part in message.content:
        if part.type == "text":
            print(f"{message.role}: {part.text.value}")

# Output:
#
# The run is completed.
# user: How do I solve 3x + 11 = 14?
# assistant: I am rethread's built-in demo model: I do not think, I only show that everything
#     works. You said: «How do I solve 3x + 11 = 14?». To get real answers, start rethread with
#     --upstream.
