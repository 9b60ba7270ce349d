// Files, stores and an answer that cites, with whatever `openai` stands beside this file; prints
// what was seen, as JSON. node library.mjs BASE_URL
import OpenAI, { toFile } from "openai";
import { VERSION } from "openai/version";

const client = new OpenAI({
  baseURL: process.argv[2],
  apiKey: "any",
  timeout: 30_000,
  maxRetries: 0,
});
const { files, uploads, vectorStores: stores } = client;
const { assistants, threads } = client.beta;
const isOld = VERSION.startsWith("4.");
const WHALE = "The blue whale is the largest animal.\n";

// Since 5.0 a nested resource takes its own id first and its parent's by name.
const within = (storeId, id, fields) =>
  isOld ? [storeId, id, fields ?? {}] : [id, { vector_store_id: storeId, ...fields }];
const erase = (resource, id) => (isOld ? resource.del(id) : resource.delete(id));
const named = (text, name) => toFile(Buffer.from(text), name);

async function all(pages) {
  const found = [];
  for await (const each of pages) found.push(each);
  return found;
}

async function upload() {
  const mime_type = "text/plain";
  const wanted = { filename: "whale.txt", bytes: WHALE.length, mime_type, purpose: "assistants" };
  const { id } = await uploads.create(wanted);
  const part = async (text) =>
    (await uploads.parts.create(id, { data: await named(text, "part") })).id;
  const second = await part(WHALE.slice(20));
  const part_ids = [await part(WHALE.slice(0, 20)), second];
  const { file } = await uploads.complete(id, { part_ids });
  return (await (await files.content(file.id)).text()) === WHALE;
}

async function answer(storeId, whaleId) {
  const { id: assistant_id } = await assistants.create({
    model: "demo",
    tools: [{ type: "file_search" }],
    tool_resources: { file_search: { vector_store_ids: [storeId] } },
  });
  const thread = await threads.create({
    messages: [{ role: "user", content: "Which animal is the largest?" }],
  });
  const searched = [];
  const heard = [];
  const stream = threads.runs.stream(thread.id, { assistant_id });
  stream.on("toolCallCreated", (call) => searched.push(call.type));
  stream.on("textDelta", ({ annotations }) => heard.push(...(annotations ?? [])));
  const [message] = await stream.finalMessages();
  const { text } = message.content[0];
  const [citation] = text.annotations;
  const kept = (await threads.messages.list(thread.id, { limit: 1 })).data[0];
  await erase(assistants, assistant_id);
  return {
    searched,
    cites: citation.file_citation.file_id === whaleId,
    heard: heard.length === 1 && heard[0].file_citation.file_id === whaleId,
    in_place: text.value.slice(citation.start_index, citation.end_index) === citation.text,
    kept: kept.content[0].text.value === text.value,
  };
}

async function keep() {
  const seen = {};
  const whale = await files.create({
    file: await named(WHALE, "whale.txt"),
    purpose: "assistants",
  });
  seen.same_content = (await (await files.content(whale.id)).text()) === WHALE;
  const listed = await all(files.list({ purpose: "assistants" }));
  seen.listed = listed.some(({ id }) => id === whale.id);

  const expires_after = { anchor: "last_active_at", days: 1 };
  const store = await stores.create({ name: "Animals", expires_after });
  const polled = await stores.files.createAndPoll(store.id, { file_id: whale.id });
  const strange = await stores.files.uploadAndPoll(
    store.id,
    await toFile(Buffer.from([255, 0, 254]), "cat.xyz"),
  );
  seen.polled = [polled.status, strange.last_error.code];
  const notes = [await named("# Owls\n\nOwls hunt at night.", "owl.md"), await named("x", "x.txt")];
  const batch = await stores.fileBatches.uploadAndPoll(store.id, { files: notes });
  const inBatch = stores.fileBatches.listFiles(...within(store.id, batch.id, { limit: 1 }));
  seen.batch = [batch.status, batch.file_counts.completed, (await all(inBatch)).length];
  seen.upload = await upload();

  const kind = { kind: "sea", tons: 150, old: true };
  const labelled = await stores.files.update(...within(store.id, whale.id, { attributes: kind }));
  seen.attributes = labelled.attributes;
  const filters = { type: "gt", key: "tons", value: 100 };
  const found = await all(stores.search(store.id, { query: "largest animal", filters }));
  seen.found = found.map(({ filename, content, attributes }) => [
    filename,
    content[0].text,
    attributes,
  ]);
  const pieces = await all(stores.files.content(...within(store.id, whale.id)));
  seen.text = pieces.map(({ text }) => text).join("");
  seen.answer = await answer(store.id, whale.id);

  await erase(files, whale.id);
  seen.counts = (await stores.retrieve(store.id)).file_counts;
  seen.deleted = (await erase(stores, store.id)).object;
  try {
    await stores.files.list(store.id);
  } catch (refused) {
    seen.gone = [refused.status, refused.error.message.replace(store.id, "vs_x")];
  }
  return seen;
}

console.log(JSON.stringify(await keep()));
