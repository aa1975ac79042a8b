/** Cheap ways to read a job repeatedly: `Prefer: wait`, and ETags. */
import { expect, test, vi } from "vitest";
import type { Job } from "../../../shared/api/jobs.ts";
import { eventChannel } from "../../../shared/redis/keys.ts";
import { appendText, card, claim, newTenant, play, redis } from "../harness.ts";

const submission = { model: card.id, prompt: "Hello" };
const applied = (reply: Response) => reply.headers.get("preference-applied");

/** Resolves when the job's channel has a subscriber. */
const isWaitedFor = (jobId: string) =>
  vi.waitUntil(
    async () => Number((await redis.pubsub("NUMSUB", eventChannel(jobId)))[1]) > 0,
    10_000,
  );

test("a submission that prefers to wait is answered with 200 when the job has ended", async () => {
  const client = await newTenant();
  const pending = client.post("/v1/jobs", submission, { prefer: "respond-async, wait=30" });
  const id = await client.queuedJob();
  await isWaitedFor(id);
  await play(id, ["Hel", "lo"]);
  const reply = await pending;
  expect([reply.status, applied(reply)]).toEqual([200, "wait=30"]);
  expect(await reply.json()).toMatchObject({ id, state: "succeeded", output: { text: "Hello" } });
});

test("a submission whose wait ends before the job is answered with 202, and the job continues", async () => {
  const client = await newTenant();
  const reply = await client.post("/v1/jobs", submission, { prefer: "wait=1" });
  expect([reply.status, applied(reply)]).toEqual([202, "wait=1"]);
  const { id, state } = await reply.json<Job>();
  expect(state).toBe("queued");
  await play(id, []);
  expect(await client.job(id)).toMatchObject({ state: "succeeded" });
});

test("a read may also wait, up to a minute, for a queued or running job; for an ended job it does not wait", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { attempt } = await claim(id);
  const read = () => client.get(`/v1/jobs/${id}`, { prefer: "wait=3600" });
  const pending = read();
  await isWaitedFor(id);
  await appendText(id, attempt, "a");
  await client.post(`/v1/jobs/${id}/cancel`);
  await play(id, ["b"]);
  const reply = await pending;
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

test("an unchanged job gets 304 without a body, which a browser may read; any change gives a new ETag", async () => {
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
  await appendText(id, attempt, "a");
  expect((await read(running.headers.get("etag")!)).status).toBe(200);
});

test("a cache asks each time whether an ended job has changed: its metadata can", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  await play(id, ["a"]);
  const before = await client.get(`/v1/jobs/${id}`);
  expect(before.headers.get("cache-control")).toBe("private, no-cache");
  const ifChanged = { "if-none-match": before.headers.get("etag")! };
  expect((await client.get(`/v1/jobs/${id}`, ifChanged)).status).toBe(304);
  await client.post(`/v1/jobs/${id}`, { metadata: { a: "b" } });
  expect((await client.get(`/v1/jobs/${id}`, ifChanged)).status).toBe(200);
});
