/** Workers that crash or are stopped: other workers continue their jobs, and readers notice only a pause. */
import OpenAI from "openai";
import { expect, onTestFinished, test, vi } from "vitest";
import { startWebhookReceiver } from "../../infra/cli/webhook-receiver.ts";
import type { WorkerProcess } from "../../infra/stack/worker.ts";
import { LEASE_GROUPS_KEY, LEASES_PREFIX } from "../../shared/redis/keys.ts";
import type { JobInput } from "../../infra/cli/job-client.ts";
import type { Job } from "../../shared/api/jobs.ts";
import { startRedisProxy, type RedisProxy } from "../support/redis-proxy.ts";
import {
  DEADLINE_MS,
  allEvents,
  countingFrom,
  runToEnd,
  LONG_JOB,
  EventReader,
  seqOf,
  SHORT_JOB,
  textOf,
  tokenIds,
  useStack,
} from "./stack.ts";

/** The members and scores of a reply WITHSCORES. */
const pairs = (flat: readonly string[]) =>
  flat.flatMap((member, i) => (i % 2 === 0 ? [[member, flat[i + 1]!] as const] : []));

const stack = useStack(null);

/**
 * Of a worker that is lost: another one takes its jobs over after this time. Not shorter, because on a busy machine a worker that
 * lives may renew its leases a second late.
 */
const LEASES = { LOCK_MS: "2000" };

/** Far from its end when its worker is killed. */
const VERY_LONG_JOB = { ...LONG_JOB, max_tokens: 400 };

/** Of jobs that ran from the first to the last token on one worker. Each is run once: it is the same every time. */
const undisturbedRuns = new Map<JobInput, Promise<Job>>();
function undisturbedRun(input: JobInput): Promise<Job> {
  const run = undisturbedRuns.get(input) ?? runToEnd(stack.client, input);
  undisturbedRuns.set(input, run);
  return run;
}

/** 150 characters or more, so also not at its end. */
const FORMAT = { type: "regex", pattern: "([a-z]{3,9} ){50,60}" } as const;

/** Different jobs that one worker runs together: greedy and sampled, steered and unsteered, free and with a format. */
const JOBS = [
  VERY_LONG_JOB,
  { ...VERY_LONG_JOB, steering: { alpha: 0 } },
  { ...VERY_LONG_JOB, temperature: 1, seed: 11 },
  { ...VERY_LONG_JOB, model: "gsm-mini", temperature: 0.7, top_p: 0.9, seed: 12 },
  { ...SHORT_JOB, max_tokens: 200, temperature: 1, seed: 13, response_format: FORMAT },
];

const SCORED_TOKENS = Array.from({ length: 400 }, (_, i) => 100 + ((i * i) % 900));
const SCORED_JOB = {
  model: "atlas-qa",
  prompt: "the capital of france",
  completion: SCORED_TOKENS,
  candidates: { top: 64 },
};
const SCORED_PROMPT = {
  model: "atlas-qa",
  prompt: SCORED_TOKENS,
  max_tokens: 1,
  temperature: 0,
  prompt_logprobs: 1,
};
/** The model must call a function, and its arguments are long. */
const CALLING_CHAT = {
  model: "atlas-qa",
  messages: [{ role: "user" as const, content: "What is the capital of France?" }],
  temperature: 1,
  seed: 3,
  max_tokens: 400,
  tool_choice: "required" as const,
  tools: [
    {
      type: "function" as const,
      function: {
        name: "note",
        parameters: {
          properties: { text: { type: "string", minLength: 300, maxLength: 310 } },
          required: ["text"],
        },
      },
    },
  ],
};
async function submitScore(): Promise<string> {
  const init = { method: "POST", body: JSON.stringify(SCORED_JOB) };
  const reply = await stack.client.request("/v1/jobs", init);
  return ((await reply.json()) as Job).id;
}
const callOf = ({ choices }: OpenAI.ChatCompletion) => {
  const [call] = choices[0]!.message.tool_calls ?? [];
  return call as OpenAI.ChatCompletionMessageFunctionToolCall;
};

test("a worker is killed during five jobs: another one finishes them, with the same texts as an undisturbed run", async () => {
  const { client, redis } = stack;
  const first = await stack.startWorker(LEASES);
  const jobs = await Promise.all(JOBS.map((input) => client.submit(input)));
  const readers = jobs.map(({ id }) => new EventReader(client, id));
  await Promise.all(readers.map((reader) => reader.hasTokens(30)));

  first.child.kill("SIGKILL");
  // A killed worker renews no leases: each of them expires within LOCK_MS.
  const [seconds] = await redis.time();
  const groups = await redis.smembers(LEASE_GROUPS_KEY);
  const leases = groups.map((group) =>
    redis.zrange(LEASES_PREFIX + group, "0", "-1", "WITHSCORES"),
  );
  const expiries = new Map((await Promise.all(leases)).flatMap(pairs));
  for (const { id } of jobs) {
    expect(Number(expiries.get(id))).toBeLessThanOrEqual((Number(seconds) + 1) * 1000 + 2_000);
  }
  // Started only now: otherwise it would run some of the jobs itself.
  const second = await stack.startWorker();
  await Promise.all(readers.map((reader) => reader.hasAttempt(2)));

  const streams = await Promise.all(readers.map((reader) => reader.ended));
  const undisturbed = await Promise.all(JOBS.map(undisturbedRun));
  for (const [i, events] of streams.entries()) {
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    const starts = events.filter((event) => event.type === "started");
    expect(starts).toMatchObject([{ attempt: 1 }, { attempt: 2 }]);
    expect(events.at(-1)?.type).toBe("succeeded");
    expect(textOf(events)).toBe(undisturbed[i]?.output.text);
    const job = await client.read(jobs[i]?.id ?? "");
    // Counts of drafted and cached tokens are those of the last attempt only, so they are not compared.
    const { prompt_tokens, completion_tokens, total_tokens } = undisturbed[i]!.usage!;
    const usage = { prompt_tokens, completion_tokens, total_tokens };
    expect(job).toMatchObject({ state: "succeeded", attempts: 2, usage });
  }
  await second.stop();
});

test("a worker is killed within a call of a function and within scored texts: clients get what an undisturbed run gives, each part once", async () => {
  const { client, edge, key } = stack;
  const openai = new OpenAI({ baseURL: `${edge.url}/v1`, apiKey: key.key, maxRetries: 0 });
  const worker = await stack.startWorker();
  const [call, scored, prompt] = await Promise.all([
    openai.chat.completions.create(CALLING_CHAT),
    submitScore().then(async (id) => (await allEvents(client, id), client.read(id))),
    openai.completions.create(SCORED_PROMPT),
  ]);
  await worker.stop();

  const first = await stack.startWorker(LEASES);
  // While others generate, texts are scored in small chunks.
  const beside = new EventReader(client, (await client.submit(VERY_LONG_JOB)).id);
  await beside.hasTokens(1);
  const streamed = await openai.chat.completions.create({ ...CALLING_CHAT, stream: true });
  const chunks = streamed[Symbol.asyncIterator]();
  let args = "";
  const readArguments = async (isEnough: () => boolean) => {
    while (!isEnough()) {
      const { value, done } = await chunks.next();
      if (done) return;
      args += value.choices[0]?.delta.tool_calls?.[0]?.function?.arguments ?? "";
    }
  };
  await readArguments(() => args.length > 10);
  const promptReply = openai.completions.create(SCORED_PROMPT);
  const scoreId = await submitScore();
  const scoreReader = new EventReader(client, scoreId);
  await scoreReader.hasTokens(1);
  first.child.kill("SIGKILL");
  const second = await stack.startWorker();

  await readArguments(() => false);
  expect(args).toBe(callOf(call).function.arguments);
  const events = await scoreReader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  const starts = events.filter((event) => event.type === "started");
  expect(starts).toMatchObject([{ attempt: 1 }, { attempt: 2 }]);
  // The first attempt was cut: it had scored a part.
  const before = tokenIds(events.slice(0, events.indexOf(starts[1]!))).length;
  expect(before).toBeGreaterThan(0);
  expect(before).toBeLessThan(SCORED_TOKENS.length);
  expect(tokenIds(events)).toEqual(SCORED_TOKENS);
  const again = await client.read(scoreId);
  for (const [i, { logprob }] of again.output.logprobs!.entries()) {
    expect(logprob).toBeCloseTo(scored.output.logprobs![i]!.logprob, 2);
  }
  const entriesOf = ({ choices: [choice] }: OpenAI.Completion) =>
    (choice as { prompt_logprobs?: (Record<string, { logprob: number }> | null)[] })
      .prompt_logprobs!;
  const [expected, entries] = [entriesOf(prompt), entriesOf(await promptReply)];
  expect(entries.map((entry) => Object.keys(entry ?? {})[0])).toEqual(
    expected.map((entry) => Object.keys(entry ?? {})[0]),
  );
  expect(entries).toHaveLength(SCORED_TOKENS.length);
  for (const [i, entry] of entries.entries()) {
    const logprobs = Object.values(entry ?? {}).map(({ logprob }) => logprob);
    const then = Object.values(expected[i] ?? {}).map(({ logprob }) => logprob);
    expect(logprobs[0] ?? 0).toBeCloseTo(then[0] ?? 0, 2);
  }
  expect(textOf(await beside.ended)).toBe((await undisturbedRun(VERY_LONG_JOB)).output.text);
  await second.stop();
});

const FAILURES = [
  {
    name: "that freezes",
    fail: ({ child }: WorkerProcess) => child.kill("SIGSTOP"),
    recover: ({ child }: WorkerProcess) => child.kill("SIGCONT"),
  },
  {
    name: "that loses Redis",
    fail: (_: WorkerProcess, proxy: RedisProxy) => proxy.partition(),
    recover: (_: WorkerProcess, proxy: RedisProxy) => proxy.heal(),
  },
];

test.for(FAILURES)(
  "a worker $name is replaced; when it recovers, it adds nothing to the job and can run other jobs",
  async ({ fail, recover }) => {
    const { client, redisServer } = stack;
    const proxy = await startRedisProxy(redisServer.url);
    const first = await stack.startWorker({ ...LEASES, SLOTS: "1", REDIS_URL: proxy.url });
    const { id } = await client.submit(VERY_LONG_JOB);
    const reader = new EventReader(client, id);
    await reader.hasTokens(20);
    fail(first, proxy);
    const second = await stack.startWorker({ SLOTS: "1" });
    await reader.hasAttempt(2);
    const before = tokenIds(reader.events).length;
    await reader.hasTokens(before + 1);
    recover(first, proxy);

    const events = await reader.ended;
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    const starts = events.filter((event) => event.type === "started");
    expect(starts).toMatchObject([{ attempt: 1 }, { attempt: 2 }]);
    // Only the first worker is left; its only slot must be free for the next job.
    await second.stop();
    expect(await runToEnd(client, SHORT_JOB)).toMatchObject({ state: "succeeded", attempts: 1 });
    expect(textOf(events)).toBe((await undisturbedRun(VERY_LONG_JOB)).output.text);
    expect(await allEvents(client, id)).toEqual(events);
    await first.stop();
    proxy.close();
  },
);

test("a worker whose connections to Redis go silent is not ready, connects again, and continues its job", async () => {
  const { client, redisServer } = stack;
  const proxy = await startRedisProxy(redisServer.url);
  const only = await stack.startWorker({ LOCK_MS: "1000", SLOTS: "1", REDIS_URL: proxy.url });
  const isReady = async () => (await fetch(`${only.healthUrl}/readyz`)).ok;
  const { id } = await client.submit(VERY_LONG_JOB);
  const reader = new EventReader(client, id);
  await reader.hasTokens(20);
  proxy.silenceConnections();
  await vi.waitUntil(async () => !(await isReady()), DEADLINE_MS);

  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  const undisturbed = await undisturbedRun(VERY_LONG_JOB);
  expect(textOf(events)).toBe(undisturbed.output.text);
  await vi.waitUntil(isReady, DEADLINE_MS);
  await only.stop();
  proxy.close();
});

test("a worker that starts while Redis is full runs the accepted jobs; their webhooks follow when there is room", async () => {
  const { client, redis, key } = stack;
  const receiver = await startWebhookReceiver({ secret: key.webhookSecret ?? "" });
  onTestFinished(() => receiver.close());
  const first = await stack.startWorker({ LOCK_MS: "1000", SLOTS: "1" });
  const job = { ...VERY_LONG_JOB, webhook: { url: receiver.url } };
  const [running, waiting] = [await client.submit(job), await client.submit(job)];
  const readers = [running, waiting].map(({ id }) => new EventReader(client, id));
  await readers[0]!.hasTokens(5);
  // Less than is in use, so no write that needs memory succeeds.
  await redis.config("SET", "maxmemory", 1);
  onTestFinished(() => void redis.config("SET", "maxmemory", 0));
  first.child.kill("SIGKILL");
  const second = await stack.startWorker({ LOCK_MS: "1000", SLOTS: "1" });
  const streams = await Promise.all(readers.map((reader) => reader.ended));
  await redis.config("SET", "maxmemory", 0);
  for (const { id } of [running, waiting]) await receiver.accepted(id, DEADLINE_MS);
  const undisturbed = await undisturbedRun(VERY_LONG_JOB);
  for (const events of streams) expect(textOf(events)).toBe(undisturbed.output.text);
  await second.stop();
});

test("a rolling restart of all workers under load loses and repeats no token", async () => {
  const { client } = stack;
  const env = { LOCK_MS: "1000", SLOTS: "2", DRAIN_SECONDS: "1" };
  const old = await Promise.all([stack.startWorker(env), stack.startWorker(env)]);
  // The first tokens are the same, whatever the number of tokens is.
  const jobs = await Promise.all(JOBS.map((input) => client.submit({ ...input, max_tokens: 150 })));
  const readers = jobs.map(({ id }) => new EventReader(client, id));
  await Promise.all(readers.slice(0, 3).map((reader) => reader.hasTokens(1)));
  const replacements: WorkerProcess[] = [];
  for (const { child } of old) {
    child.kill("SIGTERM");
    expect(await child.exited).toEqual({ code: 0, signal: null });
    replacements.push(await stack.startWorker(env));
  }
  const streams = await Promise.all(readers.map((reader) => reader.ended));
  const undisturbed = await Promise.all(JOBS.map(undisturbedRun));
  for (const [i, events] of streams.entries()) {
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    expect(events.at(-1)?.type).toBe("succeeded");
    expect(undisturbed[i]?.output.text.slice(0, textOf(events).length)).toBe(textOf(events));
  }
  await Promise.all(replacements.map((worker) => worker.stop()));
});

test("on SIGTERM a worker finishes its running job and takes no other; those wait for the next worker, until their deadline", async () => {
  const { client } = stack;
  const worker = await stack.startWorker({ SLOTS: "1", DRAIN_SECONDS: "100" });
  const running = await client.submit({ ...LONG_JOB, max_tokens: 150 });
  const reader = new EventReader(client, running.id);
  await reader.hasTokens(1);
  const waiting = await client.submit(SHORT_JOB);

  worker.child.kill("SIGTERM");
  expect(await worker.child.exited).toEqual({ code: 0, signal: null });
  expect(await client.read(running.id)).toMatchObject({ state: "succeeded", attempts: 1 });

  // No worker runs now.
  const withDeadline = await client.submit({ ...SHORT_JOB, deadline: 1 });
  const secondsPassed = () => Date.now() / 1000 - withDeadline.created_at;
  await expect.poll(secondsPassed, { timeout: DEADLINE_MS }).toBeGreaterThan(1);
  expect(await client.read(waiting.id)).toMatchObject({ state: "queued", attempts: 0 });
  const next = await stack.startWorker({ DRAIN_SECONDS: "0" });
  expect((await allEvents(client, waiting.id)).at(-1)?.type).toBe("succeeded");
  expect((await allEvents(client, withDeadline.id)).at(-1)).toMatchObject({ type: "expired" });

  // A job that a worker cannot finish in its drain time is continued by the next worker.
  const undisturbed = await undisturbedRun(LONG_JOB);
  const long = await client.submit(LONG_JOB);
  const tokens = new EventReader(client, long.id);
  await tokens.hasTokens(30);
  next.child.kill("SIGTERM");
  expect(await next.child.exited).toEqual({ code: 0, signal: null });
  const last = await stack.startWorker();
  const events = await tokens.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(textOf(events)).toBe(undisturbed.output.text);
  await last.stop();
});
