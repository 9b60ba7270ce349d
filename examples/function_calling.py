"""A run calls two functions of ours and goes on with what they gave, all of it streamed.

The demo model calls a function when the message names it; another model decides for itself.
"""

import json
import os

from openai import AssistantEventHandler, OpenAI
from openai.types.beta import AssistantStreamEvent
from openai.types.beta.function_tool_param import FunctionToolParam
from openai.types.beta.threads import Run
from openai.types.beta.threads.run_submit_tool_outputs_params import ToolOutput

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)


def get_temperature(city: str) -> str:
    return f"21 °C in {city}"


def get_rain_probability(city: str) -> str:
    return f"6 % in {city}"


FUNCTIONS = {"get_temperature": get_temperature, "get_rain_probability": get_rain_probability}


def tool(name: str, description: str) -> FunctionToolParam:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
                "required": ["city"],
            },
        },
    }


class Handler(AssistantEventHandler):
    def on_event(self, event: AssistantStreamEvent) -> None:
        if event.event == "thread.run.requires_action":
            self.answer_calls(event.data)

    def answer_calls(self, run: Run) -> None:
        assert run.required_action is not None
        outputs: list[ToolOutput] = []
        for call in run.required_action.submit_tool_outputs.tool_calls:
            print(f"call: {call.function.name}({call.function.arguments})")
            output = FUNCTIONS[call.function.name](**json.loads(call.function.arguments))
            outputs.append({"tool_call_id": call.id, "output": output})
        # All outputs go in one request; its answer is the rest of the run's stream.
        with client.beta.threads.runs.submit_tool_outputs_stream(
            run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs, event_handler=Handler()
        ) as stream:
            for text in stream.text_deltas:
                print(text, end="", flush=True)
        print()


assistant = client.beta.assistants.create(
    model="demo",
    instructions="You are a weather bot. Use the functions.",
    tools=[
        tool("get_temperature", "The present temperature in a city."),
        tool("get_rain_probability", "How likely rain is in a city today."),
    ],
)
question = "Get temperature and get rain probability for Rome, please."
thread = client.beta.threads.create(messages=[{"role": "user", "content": question}])

with client.beta.threads.runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=Handler()
) as stream:
    stream.until_done()

# Output:
#
# call: get_temperature({"city":"Rome"})
# call: get_rain_probability({"city":"Rome"})
# get_temperature answered: «21 °C in Rome». get_rain_probability answered: «6 % in Rome». To
#     get real answers, start rethread with --upstream.
