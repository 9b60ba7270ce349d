// An assistant answers in Node, streamed, and then once more by polling. npm install openai
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.RETHREAD_BASE_URL ?? "http://127.0.0.1:8484/v1",
  apiKey: process.env.RETHREAD_API_KEY ?? "any",
});

const assistant = await client.beta.assistants.create({ model: "demo" });
const thread = await client.beta.threads.create({
  messages: [{ role: "user", content: "Hello from Node!" }],
});

const stream = client.beta.threads.runs.stream(thread.id, { assistant_id: assistant.id });
stream.on("textDelta", (delta) => process.stdout.write(delta.value ?? ""));
const streamed = await stream.finalRun();
console.log(`\nThe run is ${streamed.status}.`);

await client.beta.threads.messages.create(thread.id, { role: "user", content: "And again?" });
const polled = await client.beta.threads.runs.createAndPoll(thread.id, {
  assistant_id: assistant.id,
});
const page = await client.beta.threads.messages.list(thread.id, { run_id: polled.id });
console.log(page.data[0].content[0].text.value);

// Output:
//
// I am rethread's built-in demo model: I do not think, I only show that everything works. You
//     said: «Hello from Node!». To get real answers, start rethread with --upstream.
// The run is completed.
// I am rethread's built-in demo model: I do not think, I only show that everything works. You
//     said: «And again?». To get real answers, start rethread with --upstream.
