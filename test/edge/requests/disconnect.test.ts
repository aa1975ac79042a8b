/** Clients that disconnect before their answer is complete: their jobs are cancelled only if their requests ask for it. */
import { beforeEach, expect, test, vi } from "vitest";
import { eventChannel } from "../../../shared/redis/keys.ts";
import { card, errorOf, newTenant, play, redis, store, webhooks, type Client } from "../harness.ts";

const chat = { model: card.id, messages: [{ role: "user", content: "Hi" }] };
const submission = { model: card.id, prompt: "Hello" };

let client: Client;
beforeEach(async () => {
  client = await newTenant();
});

const subscribers = async (jobId: string) =>
  Number((await redis.pubsub("NUMSUB", eventChannel(jobId)))[1]);
const state = async (jobId: string) => (await store.record(jobId))?.state;

/** Sends a request, disconnects while it waits for the answer, and resolves to the job once its channel has no subscribers. */
async function requestAndDisconnect(path: string, body: object, headers: Record<string, string>) {
  const disconnect = new AbortController();
  const reply = client.post(path, body, headers, disconnect.signal);
  reply.catch(() => {});
  const id = await client.queuedJob();
  await vi.waitUntil(async () => (await subscribers(id)) > 0, 10_000);
  disconnect.abort();
  await vi.waitUntil(async () => (await subscribers(id)) === 0, 10_000);
  return id;
}

test.each<[string, string, object, Record<string, string>]>([
  ["a chat", "/v1/chat/completions", chat, {}],
  ["a streamed chat", "/v1/chat/completions", { ...chat, stream: true }, {}],
  ["a completion", "/v1/completions", submission, {}],
  ["a submission that waits", "/v1/jobs", submission, { prefer: "wait=60" }],
])(
  "%s is cancelled when its client disconnects only if the header asks for it",
  async (_, path, body, headers) => {
    const continuedJob = await requestAndDisconnect(path, body, headers);
    expect(await state(continuedJob)).toBe("queued");
    await play(continuedJob, ["a"]);
    expect(await state(continuedJob)).toBe("succeeded");
    const explicit = { ...headers, "cancel-on-disconnect": "true" };
    const cancelled = await requestAndDisconnect(path, body, explicit);
    await expect.poll(() => state(cancelled), { timeout: 10_000 }).toBe("cancelled");
  },
);

test("all choices of a request are cancelled", async () => {
  const id = await requestAndDisconnect(
    "/v1/completions",
    { ...submission, n: 3 },
    { "cancel-on-disconnect": "?1" },
  );
  const first = id.replace(/-\d$/, "");
  for (const choice of [first, `${first}-1`, `${first}-2`]) {
    await expect.poll(() => state(choice), { timeout: 10_000 }).toBe("cancelled");
  }
});

test("the webhook of a job that a disconnect cancelled is sent", async () => {
  const body = { ...chat, webhook: { url: "https://example.com/hook" } };
  const id = await requestAndDisconnect("/v1/chat/completions", body, {
    "cancel-on-disconnect": "true",
  });
  const delivery = `${id.replace("job_", "msg_")}-job`;
  const announced = () => webhooks.deliveries.get(client.tenant, delivery);
  await expect.poll(announced, { timeout: 10_000 }).toMatchObject({ state: "pending" });
});

test("nothing is cancelled after a reply that was read completely, or after a submission that does not wait", async () => {
  const headers = { "cancel-on-disconnect": "true" };
  const reply = client.post("/v1/chat/completions", chat, headers);
  const id = await client.queuedJob();
  await play(id, ["a"]);
  expect((await reply).status).toBe(200);
  const submitted = await (
    await client.post("/v1/jobs", submission, headers)
  ).json<{ id: string }>();
  expect(await state(id)).toBe("succeeded");
  expect(await store.record(submitted.id)).toMatchObject({ cancelRequested: false });
});

test.each(["maybe", "constructor", "__proto__", "toString"])(
  "the value %s is refused before the model is looked up, and creates no job",
  async (value) => {
    const unknown = { ...submission, model: "unknown" };
    const reply = await client.post("/v1/jobs", unknown, { "cancel-on-disconnect": value });
    expect(await errorOf(reply)).toMatchObject({ status: 400, param: "Cancel-On-Disconnect" });
    expect(await client.queuedJobs()).toEqual([]);
  },
);
