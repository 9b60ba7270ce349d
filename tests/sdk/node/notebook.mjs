// A table that code analyses, with whatever `openai` stands beside this file; prints what was
// seen, as JSON. node notebook.mjs BASE_URL
import OpenAI, { toFile } from "openai";
import { VERSION } from "openai/version";

const client = new OpenAI({
  baseURL: process.argv[2],
  apiKey: "any",
  timeout: 30_000,
  maxRetries: 0,
});
const { threads } = client.beta;
const TABLE = "month,amount\nMay,3\nJune,4\n";
const CODE = `import base64, csv
from IPython.display import Image
rows = list(csv.DictReader(open("/mnt/data/sales.csv")))
print(len(rows), "months")
display(Image(base64.b64decode("R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="), format="gif"))
with open("total.txt", "w") as file:
    file.write(str(sum(int(row["amount"]) for row in rows)))`;
const fenced = (code) => "```python\n" + code + "\n```";
const GO_ON = fenced('max(rows, key=lambda row: int(row["amount"]))["month"]');
const fetched = async (id) => Buffer.from(await (await client.files.content(id)).arrayBuffer());

const table = await client.files.create({
  file: await toFile(Buffer.from(TABLE), "sales.csv"),
  purpose: "assistants",
});
const { id: assistant_id } = await client.beta.assistants.create({
  model: "demo",
  tools: [{ type: "code_interpreter" }],
  tool_resources: { code_interpreter: { file_ids: [table.id] } },
});
const thread = await threads.create({ messages: [{ role: "user", content: fenced(CODE) }] });
const [begun, images, linked] = [[], [], []];
let written = "";
const stream = threads.runs.stream(thread.id, { assistant_id });
stream.on("toolCallCreated", (call) => begun.push(call.type));
stream.on("toolCallDelta", (delta) => {
  written += delta.code_interpreter?.input ?? "";
});
stream.on("imageFileDone", (image) => images.push(image.file_id));
stream.on("textDelta", ({ annotations }) => linked.push(...(annotations ?? [])));
const [said] = await stream.finalMessages();
const [first] = await stream.finalRunSteps();
const [call] = first.step_details.tool_calls;
const [logs, shown] = call.code_interpreter.outputs;
const [image, { text }] = said.content;
const [link] = text.annotations;
const kept = (await threads.messages.list(thread.id, { limit: 1 })).data[0];
const made = await client.files.retrieve(link.file_path.file_id);

await threads.messages.create(thread.id, { role: "user", content: GO_ON });
const run = await threads.runs.createAndPoll(thread.id, { assistant_id });
// Since 5.0 a nested resource takes its own id first and its parent's by name.
const steps = VERSION.startsWith("4.")
  ? await threads.runs.steps.list(thread.id, run.id, { order: "asc" })
  : await threads.runs.steps.list(run.id, { thread_id: thread.id, order: "asc" });
const [again] = steps.data[0].step_details.tool_calls;

console.log(
  JSON.stringify({
    begun,
    input: call.code_interpreter.input === CODE,
    heard: written === CODE,
    logs: logs.logs,
    image: images.length === 1 && images[0] === shown.image.file_id,
    bytes: (await fetched(shown.image.file_id)).subarray(0, 6).toString(),
    link: [link.text, text.value.slice(link.start_index, link.end_index)],
    heard_link: linked.length === 1 && linked[0].file_path.file_id === made.id,
    made: [made.filename, made.purpose, (await fetched(made.id)).toString()],
    kept:
      kept.content[0].image_file.file_id === image.image_file.file_id &&
      kept.content[1].text.value === text.value,
    polled: run.status,
    variables: again.code_interpreter.outputs[0].logs,
  }),
);
