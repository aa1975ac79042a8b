/** Queue positions and estimates of the start time, with a real worker. */
import { expect, test } from "vitest";
import type { Quote } from "../../shared/api/queue.ts";
import {
  allEvents,
  DEADLINE_MS,
  runToEnd,
  LONG_JOB,
  EventReader,
  SHORT_JOB,
  useStack,
} from "./stack.ts";

const stack = useStack({ SLOTS: "1" });

const post = (path: string, body: object) =>
  stack.client.request(path, { method: "POST", body: JSON.stringify(body) });
const quote = async (body: object) => (await (await post("/v1/jobs/quote", body)).json()) as Quote;

test("waiting jobs have a position and an estimate, a quote creates nothing, and a job that cannot start in time is rejected", async () => {
  const { client } = stack;
  await runToEnd(client, LONG_JOB);
  await expect
    .poll(async () => (await quote(LONG_JOB)).queue, { timeout: DEADLINE_MS })
    .toMatchObject({ position: 1, tokens_ahead: 0, eta: { p50: 0, p90: 0 } });

  const running = await client.submit({ ...LONG_JOB, max_tokens: 400 });
  await new EventReader(client, running.id).hasTokens(1);
  const waiting = [];
  for (let i = 0; i < 40; i++) waiting.push(await client.submit({ ...LONG_JOB, seed: i }));
  const last = waiting.at(-1)!;
  const { phase, queue } = await client.read(last.id);
  expect(phase).toBe("waiting");
  expect(queue!.position).toBeGreaterThan(30);
  await expect
    .poll(async () => (await client.read(last.id)).queue!.eta?.p50, { timeout: DEADLINE_MS })
    .toBeGreaterThan(0);

  const before = await stack.redis.dbsize();
  const quoted = await quote({ ...LONG_JOB, priority: 10 });
  expect(quoted).toMatchObject({ object: "quote", max_tokens: 200, prompt_tokens_exact: false });
  expect(quoted.queue.position).toBe(1);
  expect(await stack.redis.dbsize()).toBeLessThanOrEqual(before);

  const rejected = await post("/v1/jobs", { ...LONG_JOB, start_by: 1 });
  expect(rejected.status).toBe(409);
  expect(await rejected.json()).toMatchObject({
    error: { code: "deadline_unreachable", param: "start_by" },
  });
  expect((await post("/v1/jobs", { ...LONG_JOB, start_by: 3_600 })).status).toBe(202);

  await Promise.all([running, ...waiting].map(({ id }) => client.cancel(id)));
  await allEvents(client, running.id);
  expect((await runToEnd(client, SHORT_JOB)).queue).toBeNull();
});
