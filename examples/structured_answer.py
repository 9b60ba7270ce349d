"""An answer that fits a JSON schema."""

import json
import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)

assistant = client.beta.assistants.create(
    model="demo",
    instructions="Take the order.",
    response_format={
        "type": "json_schema",
        "json_schema": {
            "name": "order",
            "schema": {
                "type": "object",
                "properties": {
                    "dish": {"type": "string", "enum": ["pizza", "pasta"]},
                    "count": {"type": "integer", "minimum": 1, "maximum": 9},
                },
                "required": ["dish", "count"],
                "additionalProperties": False,
            },
        },
    },
)
run = client.beta.threads.create_and_run_poll(
    assistant_id=assistant.id,
    thread={"messages": [{"role": "user", "content": "Pasta, please."}]},
)
part = client.beta.threads.messages.list(run.thread_id).data[0].content[0]
assert part.type == "text"
order = json.loads(part.text.value)
print(f"{order['count']} x {order['dish']}")

# Output:
#
# 1 x pasta
