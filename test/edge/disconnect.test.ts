/** Clients that go before their answer is whole: they cancel their jobs if they said so, and only then. */
import { beforeEach, expect, test, vi } from "vitest";
import { bellChannel } from "../../shared/redis-keys.ts";
import { card, errorOf, newTenant, play, redis, store, webhooks, type Client } from "./harness.ts";

const chat = { model: card.id, messages: [{ role: "user", content: "Hi" }] };
const submission = { model: card.id, prompt: "Hello" };

let client: Client;
beforeEach(async () => {
  client = await newTenant();
});

const listeners = async (jobId: string) =>
  Number((await redis.pubsub("NUMSUB", bellChannel(jobId)))[1]);
const state = async (jobId: string) => (await store.record(jobId))?.state;

/** Asks, goes when the answer is being waited for, and resolves to the job once nobody listens to it. */
async function askAndGo(path: string, body: object, headers: Record<string, string>) {
  const gone = new AbortController();
  const reply = client.post(path, body, headers, gone.signal);
  reply.catch(() => {});
  const id = await client.queuedJob();
  await vi.waitUntil(async () => (await listeners(id)) > 0, 10_000);
  gone.abort();
  await vi.waitUntil(async () => (await listeners(id)) === 0, 10_000);
  return id;
}

test.each<[string, string, object, Record<string, string>]>([
  ["a chat", "/v1/chat/completions", chat, {}],
  ["a streamed chat", "/v1/chat/completions", { ...chat, stream: true }, {}],
  ["a completion", "/v1/completions", submission, {}],
  ["a submission that waits", "/v1/jobs", submission, { prefer: "wait=60" }],
])("%s ends with its client only where that was asked for", async (_, path, body, headers) => {
  const kept = await askAndGo(path, body, headers);
  expect(await state(kept)).toBe("queued");
  await play(kept, ["a"]);
  expect(await state(kept)).toBe("succeeded");
  const explicit = { ...headers, "cancel-on-disconnect": "true" };
  const cancelled = await askAndGo(path, body, explicit);
  await expect.poll(() => state(cancelled), { timeout: 10_000 }).toBe("cancelled");
});

test("all choices of a request are cancelled", async () => {
  const id = await askAndGo(
    "/v1/completions",
    { ...submission, n: 3 },
    { "cancel-on-disconnect": "?1" },
  );
  const first = id.replace(/-\d$/, "");
  for (const choice of [first, `${first}-1`, `${first}-2`]) {
    await expect.poll(() => state(choice), { timeout: 10_000 }).toBe("cancelled");
  }
});

test("the end of a job whose client has gone is announced by its webhook", async () => {
  const body = { ...chat, webhook: { url: "https://example.com/hook" } };
  const id = await askAndGo("/v1/chat/completions", body, { "cancel-on-disconnect": "true" });
  const delivery = `${id.replace("job_", "msg_")}-job`;
  const announced = () => webhooks.deliveries.one(client.tenant, delivery);
  await expect.poll(announced, { timeout: 10_000 }).toMatchObject({ state: "pending" });
});

test("an answer that was read to its end cancels nothing, nor does a submission that waits for none", async () => {
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

test("another value than true and false is refused, and makes no job", async () => {
  const reply = await client.post("/v1/jobs", submission, { "cancel-on-disconnect": "maybe" });
  expect(await errorOf(reply)).toMatchObject({ status: 400, param: "Cancel-On-Disconnect" });
  expect(await client.queuedJobs()).toEqual([]);
});
