// A conversation with whatever `openai` stands beside this file; prints what was seen, as JSON.
// node conversation.mjs BASE_URL [ASSISTANT_ID]
// With an assistant, three of its runs are streamed at once. Silent: as it comes. Resumed: lost at
// its first words and taken up there; repeated: one event earlier.
import OpenAI, { toFile } from "openai";
import { AssistantStream } from "openai/lib/AssistantStream";
import { VERSION } from "openai/version";

const [baseURL, assistantId] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", timeout: 30_000, maxRetries: 0 });
const { assistants, threads } = client.beta;
const isOld = VERSION.startsWith("4.");

// Since 5.0 a nested resource takes its own id first and its parents' by name.
const nested = (threadId, runId, fields) =>
  isOld ? [threadId, runId, fields] : [runId, { thread_id: threadId, ...fields }];

const unique = (names) => [...new Set(names)];

async function streamed(stream) {
  const names = [];
  let text = "";
  let ended = false;
  stream.on("event", ({ event }) => names.push(event));
  stream.on("textDelta", (delta) => (text += delta.value ?? ""));
  stream.on("end", () => (ended = true));
  await stream.done();
  return { names: unique(names), text, ended, run: stream.currentRun() };
}

async function talk() {
  const seen = {};
  const assistant = await assistants.create({
    model: "demo",
    instructions: "Be kind.",
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          parameters: { type: "object", properties: { city: { type: "string" } } },
        },
      },
    ],
  });
  const assistant_id = assistant.id;
  const thread = await threads.create({ messages: [{ role: "user", content: "Hello" }] });
  seen.polled = (await threads.runs.createAndPoll(thread.id, { assistant_id })).status;

  await threads.messages.create(thread.id, { role: "user", content: "Call get_weather for Paris" });
  const asking = await streamed(threads.runs.stream(thread.id, { assistant_id }));
  const calls = asking.run.required_action.submit_tool_outputs.tool_calls;
  seen.called = calls.map(({ function: f }) => [f.name, JSON.parse(f.arguments)]);
  seen.asking = asking.names;
  const tool_outputs = calls.map(({ id }) => ({ tool_call_id: id, output: "sunny" }));
  const answering = await streamed(
    threads.runs.submitToolOutputsStream(...nested(thread.id, asking.run.id, { tool_outputs })),
  );
  const newest = (await threads.messages.list(thread.id, { limit: 1 })).data[0];
  seen.answering = answering.names;
  seen.same_text = answering.ended && answering.text === newest.content[0].text.value;

  await threads.messages.create(thread.id, { role: "user", content: "get_weather for Rome" });
  const waiting = await threads.runs.createAndPoll(thread.id, { assistant_id });
  const outputs = waiting.required_action.submit_tool_outputs.tool_calls.map(({ id }) => ({
    tool_call_id: id,
    output: "rain",
  }));
  const done = await threads.runs.submitToolOutputsAndPoll(
    ...nested(thread.id, waiting.id, { tool_outputs: outputs }),
  );
  seen.submitted = [waiting.status, done.status];

  seen.created_and_polled = (await threads.createAndRunPoll({ assistant_id })).status;
  const both = await streamed(
    threads.createAndRunStream({
      assistant_id,
      thread: { messages: [{ role: "user", content: "Hi" }] },
    }),
  );
  seen.created_and_run = both.names;
  const iterated = [];
  for await (const { event } of await threads.runs.create(thread.id, { assistant_id, stream: true }))
    iterated.push(event);
  seen.iterated = iterated.at(-1);
  let paged = 0;
  for await (const _ of threads.messages.list(thread.id, { limit: 2 })) paged += 1;
  seen.paged = paged;

  const query = { metadata: { "a user": `42 & ${VERSION}` } };
  await threads.update(thread.id, query);
  const listed = await client.get("/threads", { query });
  seen.listed = listed.data.map(({ id }) => id === thread.id);
  try {
    await threads.runs.retrieve(...nested(thread.id, "run_unknown", undefined));
  } catch (refused) {
    seen.unknown = refused.status;
  }
  seen.file = await exchangeFile();
  return seen;
}

async function exchangeFile() {
  const bytes = Buffer.from("hello");
  const file = await client.files.create({
    file: await toFile(bytes, 'h"öhe.txt'),
    purpose: "assistants",
  });
  const content = await (await client.files.content(file.id)).text();
  const upload = await client.uploads.create({
    bytes: bytes.length,
    filename: "a",
    mime_type: "text/plain",
    purpose: "assistants",
  });
  const part = await client.uploads.parts.create(upload.id, { data: await toFile(bytes, "a") });
  const { status } = await client.uploads.complete(upload.id, { part_ids: [part.id] });
  return [file.filename, content, status];
}

const listen = () =>
  streamed(
    threads.createAndRunStream({
      assistant_id: assistantId,
      thread: { messages: [{ role: "user", content: "Slowly" }] },
    }),
  ).then(({ names, text }) => ({ text, last: names.at(-1) }));

const follow = (threadId, runId, after) =>
  client.get(`/threads/${threadId}/runs/${runId}/events`, {
    query: { starting_after: after },
    stream: true,
  });

async function resume(earlier) {
  const stream = await threads.createAndRun({
    assistant_id: assistantId,
    thread: { messages: [{ role: "user", content: "Slowly" }] },
    stream: true,
  });
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (event.event === "thread.message.delta") break;
  }
  const { thread_id, id } = events.find(({ event }) => event === "thread.run.created").data;
  events.splice(events.length - earlier);
  for await (const event of await follow(thread_id, id, events.length)) events.push(event);
  const again = await follow(thread_id, id, 0);
  const { names, text } = await streamed(AssistantStream.fromReadableStream(again.toReadableStream()));
  const all = events.map(({ event }) => event);
  const same = JSON.stringify(unique(all)) === JSON.stringify(names);
  return { text, last: all.at(-1), same_events: same };
}

async function listenInAllWays() {
  const [silent, resumed, repeated] = await Promise.all([listen(), resume(0), resume(1)]);
  return { silent, resumed, repeated };
}

console.log(JSON.stringify(await (assistantId ? listenInAllWays : talk)()));
