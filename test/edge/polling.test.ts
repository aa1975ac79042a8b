/** Asking for a job again and again, at little cost: waiting for its end, and being told that nothing changed. */
import { expect, test, vi } from "vitest";
import type { Job } from "../../shared/contract.ts";
import { bellChannel } from "../../shared/redis-keys.ts";
import { card, claim, newTenant, play, redis, say } from "./harness.ts";

const submission = { model: card.id, prompt: "Hello" };
const applied = (reply: Response) => reply.headers.get("preference-applied");

/** Resolves once somebody listens to the job. */
const listenedTo = (jobId: string) =>
  vi.waitUntil(
    async () => Number((await redis.pubsub("NUMSUB", bellChannel(jobId)))[1]) > 0,
    10_000,
  );

test("a submission that prefers to wait is answered when the job ended, with 200", async () => {
  const client = await newTenant();
  const asked = client.post("/v1/jobs", submission, { prefer: "respond-async, wait=30" });
  const id = await client.queuedJob();
  await listenedTo(id);
  await play(id, ["Hel", "lo"]);
  const reply = await asked;
  expect([reply.status, applied(reply)]).toEqual([200, "wait=30"]);
  expect(await reply.json()).toMatchObject({ id, state: "succeeded", output: { text: "Hello" } });
});

test("one whose wait is over first is answered with 202 and the job as it is, which goes on", async () => {
  const client = await newTenant();
  const reply = await client.post("/v1/jobs", submission, { prefer: "wait=1" });
  expect([reply.status, applied(reply)]).toEqual([202, "wait=1"]);
  const { id, state } = await reply.json<Job>();
  expect(state).toBe("queued");
  await play(id, []);
  expect(await client.job(id)).toMatchObject({ state: "succeeded" });
});

test("a reader may wait too, up to a minute, also on a job that runs; an ended one is not waited for", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { attempt } = await claim(id);
  const read = () => client.get(`/v1/jobs/${id}`, { prefer: "wait=3600" });
  const asked = read();
  await listenedTo(id);
  await say(id, attempt, "a");
  await client.post(`/v1/jobs/${id}/cancel`);
  await play(id, ["b"]);
  const reply = await asked;
  expect([reply.status, applied(reply)]).toEqual([200, "wait=60"]);
  expect(await reply.json()).toMatchObject({ state: "succeeded" });
  expect(applied(await read())).toBe("wait=60");
});

test.each(["wait", "wait=soon", "wait=-1", "await=9", "handling=lenient"])(
  "the preference %s is ignored",
  async (prefer) => {
    const client = await newTenant();
    const reply = await client.post("/v1/jobs", submission, { prefer });
    expect([reply.status, applied(reply)]).toEqual([202, null]);
  },
);

test("an unchanged job is a 304 without a body, readable by a browser; any change is a new tag", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const read = (tag = "") =>
    client.get(`/v1/jobs/${id}`, { "if-none-match": tag, origin: "https://app.example" });
  const first = await read();
  const tag = first.headers.get("etag")!;
  expect(first.headers.get("cache-control")).toBe("private, no-cache");
  expect(first.headers.get("vary")).toContain("Authorization");
  const same = await read(tag);
  expect([same.status, await same.text()]).toEqual([304, ""]);
  expect(same.headers.get("etag")).toBe(tag);
  expect(same.headers.get("access-control-allow-origin")).toBe("*");
  expect(same.headers.get("x-request-id")).toMatch(/^req_/);
  const { attempt } = await claim(id);
  const running = await read(tag);
  expect(running.status).toBe(200);
  await say(id, attempt, "a");
  expect((await read(running.headers.get("etag")!)).status).toBe(200);
});

test("an ended job may be kept until it is deleted, unless a webhook's deliveries still change it", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  await play(id, ["a"]);
  const header = (await client.get(`/v1/jobs/${id}`)).headers.get("cache-control");
  const [, seconds] = /^private, max-age=(\d+), immutable$/.exec(header ?? "") ?? [];
  expect(Number(seconds)).toBeGreaterThan(50);
  expect(Number(seconds)).toBeLessThanOrEqual(60);
  const hooked = await client.submit({ webhook: { url: "https://example.com" } });
  await play(hooked.id, ["a"]);
  const reply = await client.get(`/v1/jobs/${hooked.id}`);
  expect(reply.headers.get("cache-control")).toBe("private, no-cache");
});
