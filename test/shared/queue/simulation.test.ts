/**
 * A seeded simulation of the fair queues on a real Redis: thousands of tenants, random costs, cancellations and corrections, and
 * several lanes. Virtual time never decreases, no flow starves, and flows that always have waiting jobs share a lane within
 * the cost of one job.
 */
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { FAIR_QUEUE_LUA } from "../../../shared/queue/fair-queue-lua.ts";
import { LANE_COUNTERS_PREFIX, LANES_KEY, WAITING_JOBS_KEY } from "../../../shared/redis/keys.ts";

const LANES = ["a", "b", "a+b"];
const COST_MAX = 500;

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** ARGV: JSON list of steps. Each has the effect of a script of jobs/ on the queue. Returns the popped ids and virtual times. */
const STEPS = `
${FAIR_QUEUE_LUA}
local replies = {}
for _, step in ipairs(cjson.decode(ARGV[1])) do
  local lane = openLane(step.lane)
  if step.type == 'submit' then
    addToFlow(lane, step.flow, step.id, step.cost, step.priority, 0)
  elseif step.type == 'cancel' then
    removeFromFlow(lane, step.flow, step.id, step.cost)
  elseif step.type == 'end' then
    setStartTag(lane, step.flow, startTag(lane, step.flow) + step.used - step.cost)
  elseif step.type == 'take' then
    local id = popNextJob(lane, function(id) return tonumber(redis.call('HGET', 'costs', id)) end)
    replies[#replies + 1] = {id or '', redis.call('HGET', lane.counters, 'virtualTime') or '0'}
  end
end
return replies
`;

type Step =
  | { type: "submit"; lane: string; flow: string; id: string; cost: number; priority: number }
  | { type: "cancel"; lane: string; flow: string; id: string; cost: number }
  | { type: "end"; lane: string; flow: string; cost: number; used: number }
  | { type: "take"; lane: string };

const run = async (steps: readonly Step[]) =>
  (await redis.eval(STEPS, 0, JSON.stringify(steps))) as [id: string, virtualTime: string][];

/** Pseudo-random numbers from 0 to 1, the same in each run. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}

interface Waiting {
  readonly lane: string;
  readonly flow: string;
  readonly id: string;
  readonly cost: number;
  readonly priority: number;
}

test("thousands of tenants, cancellations and corrections: virtual time never decreases, and every job is taken once", async () => {
  const random = randomFrom(7);
  const pick = <T>(items: readonly T[]) => items[Math.floor(random() * items.length)]!;
  const tenants = Array.from({ length: 3_000 }, (_, i) => `tenant-${i}`);
  const waiting = new Map<string, Waiting>();
  const running: Waiting[] = [];
  const virtualTimes = new Map(LANES.map((lane) => [lane, 0]));
  let submitted = 0;
  let taken = 0;
  let cancelled = 0;
  for (let round = 0; round < 40; round++) {
    const steps: Step[] = [];
    const costs: string[] = [];
    for (let i = 0; i < 150; i++) {
      const job: Waiting = {
        lane: pick(LANES),
        flow: pick(tenants),
        id: `job-${submitted++}`,
        cost: 1 + Math.floor(random() * COST_MAX),
        priority: Math.floor(random() * 3) - 1,
      };
      waiting.set(job.id, job);
      costs.push(job.id, String(job.cost));
      steps.push({ type: "submit", ...job });
    }
    for (let i = 0; i < 15 && waiting.size > 0; i++) {
      const job = pick([...waiting.values()]);
      waiting.delete(job.id);
      cancelled++;
      steps.push({ type: "cancel", ...job });
    }
    // Jobs end with fewer tokens than they cost, or with more.
    for (const job of running.splice(0)) {
      steps.push({ type: "end", ...job, used: Math.floor(random() * 2 * COST_MAX) });
    }
    const takes: Step[] = Array.from({ length: 100 }, () => ({ type: "take", lane: pick(LANES) }));
    await redis.hset("costs", ...costs);
    const replies = await run([...steps, ...takes]);
    for (const [i, [id, virtualTime]] of replies.entries()) {
      const { lane } = takes[i]!;
      expect(Number(virtualTime)).toBeGreaterThanOrEqual(virtualTimes.get(lane)!);
      virtualTimes.set(lane, Number(virtualTime));
      if (id === "") continue;
      const job = waiting.get(id);
      expect(job?.lane).toBe(lane);
      waiting.delete(id);
      running.push(job!);
      taken++;
    }
  }
  expect(await redis.zcard(WAITING_JOBS_KEY)).toBe(waiting.size);
  for (const lane of LANES) {
    for (;;) {
      const [[id]] = (await run([{ type: "take", lane }])) as [[string, string]];
      if (id === "") break;
      expect(waiting.delete(id)).toBe(true);
      taken++;
    }
  }
  expect(taken + cancelled).toBe(submitted);
  expect(await redis.scard(LANES_KEY)).toBe(0);
});

test("flows that always have waiting jobs share a lane within the cost of one job, whatever others do, and none starves", async () => {
  await redis.flushall();
  const random = randomFrom(11);
  const backlogged = Array.from({ length: 20 }, (_, i) => `backlogged-${i}`);
  const flowOfJob = new Map<string, { flow: string; cost: number }>();
  const served = new Map(backlogged.map((flow) => [flow, 0]));
  let count = 0;
  const submit = (flow: string, costMax: number): Step => {
    const id = `job-${count++}`;
    const cost = 1 + Math.floor(random() * costMax);
    flowOfJob.set(id, { flow, cost });
    return { type: "submit", lane: "a", flow, id, cost, priority: 0 };
  };
  // Each has its own size of jobs, so equal counts of jobs would not be fair.
  const costMaxOf = (flow: string) =>
    20 + (COST_MAX * backlogged.indexOf(flow)) / backlogged.length;
  const initial = backlogged.flatMap((flow) =>
    Array.from({ length: 25 }, () => submit(flow, costMaxOf(flow))),
  );
  let steps = initial;
  const lastTaken = new Map(backlogged.map((flow) => [flow, 0]));
  for (let taken = 0; taken < 4_000; taken += 20) {
    // Tenants that come and go.
    for (let i = 0; i < 3; i++)
      steps.push(submit(`guest-${Math.floor(random() * 2_000)}`, COST_MAX));
    const costs = steps.flatMap((step) =>
      step.type === "submit" ? [step.id, String(step.cost)] : [],
    );
    await redis.hset("costs", ...costs);
    const takes: Step[] = Array.from({ length: 20 }, () => ({ type: "take", lane: "a" }));
    const replies = await run([...steps, ...takes]);
    steps = [];
    for (const [id] of replies) {
      const { flow, cost } = flowOfJob.get(id)!;
      if (!served.has(flow)) continue;
      // The correction at the job's end: it used up to twice its cost, or nothing.
      const used = Math.floor(random() * 2 * cost);
      steps.push({ type: "end", lane: "a", flow, cost, used });
      steps.push(submit(flow, costMaxOf(flow)));
      served.set(flow, served.get(flow)! + used);
      lastTaken.set(flow, taken);
    }
  }
  const tokens = [...served.values()];
  // A flow runs ahead by the job that was taken last; corrections of up to 20 jobs are not in the tags yet.
  expect(Math.max(...tokens) - Math.min(...tokens)).toBeLessThanOrEqual(4 * COST_MAX);
  expect(Math.min(...tokens)).toBeGreaterThan(20 * COST_MAX);
  expect(Math.min(...lastTaken.values())).toBeGreaterThan(3_000);
  expect(Number(await redis.hget(`${LANE_COUNTERS_PREFIX}a`, "virtualTime"))).toBeGreaterThan(0);
});
