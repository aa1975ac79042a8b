/** The request of a job as it was sent, reruns, changes of metadata, and the cancellation of many jobs. */
import { expect, test } from "vitest";
import type { Job } from "../../../shared/api/jobs.ts";
import type { SentRequest } from "../../../shared/api/reruns.ts";
import { jobKey } from "../../../shared/redis/keys.ts";
import { card, claim, errorOf, newTenant, play, redis, store, type Client } from "../harness.ts";

const requestOf = (client: Client, id: string) => client.get(`/v1/jobs/${id}/request`);
const MESSAGES = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Hello ü" },
];
const BODIES: [string, object][] = [
  ["/v1/jobs", { model: card.id, prompt: "Hello", seed: 7, metadata: { a: "b" } }],
  ["/v1/jobs", { model: card.id, prompt: [1, 2, 3], steering: { alpha: 1 } }],
  ["/v1/jobs", { model: card.id, messages: MESSAGES }],
  [
    "/v1/chat/completions",
    { model: card.id, messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }], n: 2 },
  ],
  ["/v1/completions", { model: card.id, prompt: ["One", "Two"], user: "me" }],
  ["/v1/responses", { model: card.id, input: "Hi", instructions: "Be brief." }],
];

test.for(BODIES)(
  "%s %j is readable as it was sent, with each of its jobs",
  async ([path, body]) => {
    const client = await newTenant();
    void client.post(path, body).catch(() => {});
    const id = await client.queuedJob();
    const first = id.replace(/-\d+$/, "");
    const choices = (await store.record(first))!.requestOptions.choices ?? 1;
    for (const job of [first, ...(choices > 1 ? [`${first}-1`] : [])]) {
      expect(await (await requestOf(client, job)).json<SentRequest>()).toEqual({
        id: job,
        object: "job.request",
        endpoint: path,
        body,
      });
    }
  },
);

test("a prompt is stored once, although generation and request have it", async () => {
  const client = await newTenant();
  const messages = [{ role: "user", content: "long ".repeat(50) }];
  const { id } = await client.submit({ messages, prompt: undefined });
  expect(await redis.hget(jobKey(id), "request")).not.toContain("long");
  expect(await (await requestOf(client, id)).json()).toMatchObject({ body: { messages } });
});

test("a request with store false is not kept, and a deleted one neither", async () => {
  const client = await newTenant();
  void client.post("/v1/responses", { model: card.id, input: "Hi", store: false });
  const id = await client.queuedJob();
  expect(await errorOf(await requestOf(client, id))).toMatchObject({ status: 404 });
  const other = await newTenant();
  const { id: foreign } = await other.submit();
  expect((await requestOf(client, foreign)).status).toBe(404);
});

test("a rerun has the generation of the job, with the same seed, also of what was left to defaults", async () => {
  const client = await newTenant();
  const fields = {
    prompt: [1, 2],
    temperature: 0.5,
    top_k: 3,
    stop: ["x"],
    logit_bias: { "5": -1 },
    logprobs: 2,
    response_format: { type: "regex", pattern: "[0-9]{3}" },
    steering: {
      schedule: [
        [0, 1],
        [4, 0.5],
      ],
      guards: { kl_budget: 2 },
      gate: { max_margin: 3 },
      trace: true,
    },
    metadata: { run: "7" },
  };
  const { id, seed } = await client.submit(fields);
  await play(id, ["123"]);
  const reply = await client.post(`/v1/jobs/${id}/rerun`);
  expect(reply.status).toBe(202);
  const again = await reply.json<Job>();
  expect(reply.headers.get("location")).toBe(`/v1/jobs/${again.id}`);
  expect(again).toMatchObject({ state: "queued", seed, metadata: { run: "7" } });
  expect(again.id).not.toBe(id);
  const [before, after] = await Promise.all([store.record(id), store.record(again.id)]);
  expect(after!.generation).toEqual(before!.generation);
  expect(after!.requestOptions.format).toEqual(before!.requestOptions.format);
});

test("a rerun changes what its body says, within the limits of its key", async () => {
  const client = await newTenant();
  const { id } = await client.submit({
    seed: 1,
    steering: { alpha: 1, guards: { fallback: 0.5 }, trace: true },
  });
  const changes = { steering: { alpha: 0 }, seed: 2, max_tokens: 5, metadata: { run: "8" } };
  const reply = await client.post(`/v1/jobs/${id}/rerun`, changes);
  const again = await reply.json<Job>();
  expect(again).toMatchObject({ seed: 2, metadata: { run: "8" } });
  expect(again.steering).toEqual({ alpha: 0 });
  expect((await store.record(again.id))!.generation).toMatchObject({ maxTokens: 5, alpha: 0 });
  const refused = await client.post(`/v1/jobs/${id}/rerun`, { steering: { alpha: 3 } });
  expect(await errorOf(refused)).toMatchObject({ status: 400, param: "steering.alpha" });
  const unknown = await client.post(`/v1/jobs/${id}/rerun`, { messages: MESSAGES });
  expect((await errorOf(unknown)).param).toBe("messages");
  const narrow = await newTenant({ limits: { models: ["other"] } }, client.tenant);
  expect((await narrow.post(`/v1/jobs/${id}/rerun`, {})).status).toBe(403);
  const writer = await newTenant({ scopes: ["jobs:write"] }, client.tenant);
  expect((await writer.post(`/v1/jobs/${id}/rerun`, {})).status).toBe(403);
  const key = { "idempotency-key": "again" };
  const twice = [1, 2].map(() => client.post(`/v1/jobs/${id}/rerun`, {}, key));
  const ids = await Promise.all(twice.map(async (one) => (await (await one).json<Job>()).id));
  expect(new Set(ids).size).toBe(1);
});

test("a rerun with other steering keeps nothing of the job's", async () => {
  const client = await newTenant();
  const { id } = await client.submit({
    steering: { alpha: 1, base_error_max: 0.5, base_error_action: "base" },
  });
  const rerun = async (steering: object) =>
    (await (await client.post(`/v1/jobs/${id}/rerun`, { steering })).json<Job>()).steering;
  const fails = { alpha: 1, base_error_max: 0, base_error_action: "fail" };
  expect(await rerun(fails)).toEqual({ alpha: 1 });
  expect(await rerun({ alpha: 0.5 })).toEqual({ alpha: 0.5 });
});

test("metadata is replaced in any state, and lists find the job by the new one", async () => {
  const client = await newTenant();
  const { id } = await client.submit({ metadata: { run: "7" } });
  const find = async (query: string) => {
    const { data } = await (await client.get(`/v1/jobs?${query}`)).json<{ data: Job[] }>();
    return data.map((job) => job.id);
  };
  for (const run of ["queued", "ended"]) {
    const reply = await client.post(`/v1/jobs/${id}`, { metadata: { run } });
    expect(await reply.json()).toMatchObject({ id, metadata: { run } });
    expect(await find("metadata[run]=7")).toEqual([]);
    expect(await find(`metadata[run]=${run}&model=demo`)).toEqual([id]);
    if (run === "queued") await play(id, ["Hi"]);
  }
  expect(await (await client.post(`/v1/jobs/${id}`, { metadata: null })).json()).toMatchObject({
    metadata: {},
  });
  const wrong = await client.post(`/v1/jobs/${id}`, { metadata: { a: 1 } });
  expect(await errorOf(wrong)).toMatchObject({ status: 400, param: "metadata.a" });
  const writer = await newTenant({ scopes: ["jobs:write"] }, client.tenant);
  const hidden = await writer.post(`/v1/jobs/${id}`, { metadata: {} });
  expect(await hidden.json()).not.toHaveProperty("output");
});

test("many jobs are cancelled by filter, page by page, oldest first", async () => {
  const client = await newTenant();
  const metadata = { run: "7" };
  const jobs = [];
  for (let i = 0; i < 5; i++) jobs.push(await client.submit({ metadata }));
  const [running, kept, ended] = [
    jobs[4]!,
    await client.submit(),
    await client.submit({ metadata }),
  ];
  await claim(running.id);
  await play(ended.id, ["Hi"]);
  const cancel = async (body: object) => {
    const reply = await client.post("/v1/jobs/cancel", { metadata, ...body });
    return reply.json<{ data: Job[]; has_more: boolean; last_id: string }>();
  };
  const first = await cancel({ state: "queued", limit: 3 });
  expect(first.data.map(({ state }) => state)).toEqual(["cancelled", "cancelled", "cancelled"]);
  expect(first.has_more).toBe(true);
  const second = await cancel({ after: first.last_id, limit: 3 });
  expect(second).toMatchObject({ has_more: false });
  expect(new Set([...first.data, ...second.data].map(({ id }) => id))).toEqual(
    new Set(jobs.map(({ id }) => id)),
  );
  expect(second.data.find(({ id }) => id === running.id)).toMatchObject({
    state: "running",
    cancel_requested: true,
  });
  expect(await client.job(kept.id)).toMatchObject({ state: "queued" });
  expect(await client.job(ended.id)).toMatchObject({ state: "succeeded" });
  const wrong = await client.post("/v1/jobs/cancel", { state: "succeeded" });
  expect(await errorOf(wrong)).toMatchObject({ status: 400, param: "state" });
});
