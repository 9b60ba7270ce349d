"""Three conversations at once, each streamed, with the SDK's async client."""

import asyncio
import os

from openai import AsyncOpenAI

client = AsyncOpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)


async def ask(assistant_id: str, question: str) -> str:
    """The whole answer, put together from its pieces."""
    pieces: list[str] = []
    async with client.beta.threads.create_and_run_stream(
        assistant_id=assistant_id, thread={"messages": [{"role": "user", "content": question}]}
    ) as stream:
        async for text in stream.text_deltas:
            pieces.append(text)  # noqa: PERF401 - here one would show the piece
    return "".join(pieces)


async def main() -> None:
    assistant = await client.beta.assistants.create(model="demo")
    questions = ["Who are you?", "What can you do?", "How is the weather?"]
    for answer in await asyncio.gather(*(ask(assistant.id, question) for question in questions)):
        print(answer)


asyncio.run(main())

# Output:
#
# I am rethread's built-in demo model: I do not think, I only show that everything works. You
#     said: «Who are you?». To get real answers, start rethread with --upstream.
# I am rethread's built-in demo model: I do not think, I only show that everything works. You
#     said: «What can you do?». To get real answers, start rethread with --upstream.
# I am rethread's built-in demo model: I do not think, I only show that everything works. You
#     said: «How is the weather?». To get real answers, start rethread with --upstream.
