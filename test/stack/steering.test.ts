/** Steering options and token details on the whole stack: a takeover during a job loses no entry. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { expect, onTestFinished, test } from "vitest";
import type { JobInput } from "../../infra/cli/job-client.ts";
import { DEMO_VOCAB, demoDecoder, demoTokenizer } from "../support/base-server/demo.ts";
import { llamaRoutes } from "../support/base-server/llama-cpp.ts";
import { cachedLogits, decoderLogits } from "../support/base-server/logits.ts";
import { BaseServer } from "../support/base-server/server.ts";
import {
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

const stack = useStack(null);
/** Another worker takes over the jobs of a killed one after this time. */
const LEASES = { LOCK_MS: "2000" };

test("a chat has the same log-probabilities and trace, complete or streamed", async () => {
  const worker = await stack.startWorker();
  const baseURL = `${stack.edge.url}/v1`;
  const openai = new OpenAI({ baseURL, apiKey: stack.key.key, maxRetries: 0 });
  const chat = {
    model: "atlas-qa",
    messages: [{ role: "user" as const, content: "What is the capital of France?" }],
    temperature: 0,
    max_tokens: 12,
    logprobs: true,
    top_logprobs: 3,
    steering: { alpha: 1, trace: true },
  };
  const whole = await openai.chat.completions.create(chat);
  const content = whole.choices[0]?.logprobs?.content ?? [];
  // The end token has a trace, and no log-probability.
  expect(whole.choices[0]?.finish_reason).toBe("stop");
  expect(whole.choices[0]).toHaveProperty("trace.length", whole.usage?.completion_tokens);
  expect(content).toHaveLength((whole.usage?.completion_tokens ?? 0) - 1);
  const streamed = await openai.chat.completions.stream(chat).finalChatCompletion();
  const streamedContent = streamed.choices[0]?.logprobs?.content ?? [];
  expect(streamedContent.map(({ token }) => token)).toEqual(content.map(({ token }) => token));
  for (const [i, { logprob, top_logprobs }] of streamedContent.entries()) {
    // Which tokens are drafted depends on timing, and drafting changes the last bits of the logits.
    expect(logprob).toBeCloseTo(content[i]?.logprob ?? Number.NaN, 2);
    expect(top_logprobs).toHaveLength(3);
  }
  await worker.stop();
});

test("a job whose worker is killed has one entry for every token, within its guards", async () => {
  const { client } = stack;
  const steering: JobInput["steering"] = {
    schedule: [
      [0, 1],
      [45, 0],
    ],
    guards: { base_nucleus: 0.95, kl_budget: 0.5 },
    trace: true,
  };
  const first = await stack.startWorker(LEASES);
  const { id } = await client.submit({ ...LONG_JOB, max_tokens: 60, logprobs: 1, steering });
  const reader = new EventReader(client, id);
  await reader.hasTokens(10);
  first.child.kill("SIGKILL");
  const second = await stack.startWorker();
  const events = await reader.ended;
  const ids = tokenIds(events);
  const { output, attempts } = await client.read(id);
  expect([ids.length, attempts]).toEqual([60, 2]);
  expect(output.logprobs?.map((entry) => entry.id)).toEqual(ids);
  expect(output.trace?.map((entry) => entry.id)).toEqual(ids);
  for (const [position, { alpha, kl }] of (output.trace ?? []).entries()) {
    expect(kl).toBeLessThanOrEqual(0.5);
    expect(alpha).toBeLessThanOrEqual(Math.max(0, 1 - position / 45) + 1e-4);
  }
  const plain = await client.submit(SHORT_JOB);
  await allEvents(client, plain.id);
  expect((await client.read(plain.id)).output).not.toHaveProperty("trace");
  await second.stop();
});

test("two ensembles over one base steer it together, with the text of an undisturbed run after a takeover", async () => {
  const { client } = stack;
  const pairs = [
    { model: "atlas-qa", weight: 0.7 },
    { model: "gsm-mini", weight: 0.3 },
  ];
  const job = { ...LONG_JOB, max_tokens: 400, steering: { alpha: 1, pairs, trace: true } };
  const first = await stack.startWorker(LEASES);
  const { id } = await client.submit(job);
  const reader = new EventReader(client, id);
  await reader.hasTokens(10);
  first.child.kill("SIGKILL");
  const second = await stack.startWorker();
  const events = await reader.ended;
  const { output, steering, attempts } = await client.read(id);
  expect([attempts, steering.pairs]).toEqual([2, pairs]);
  const undisturbed = await runToEnd(client, job);
  expect(output.text).toBe(undisturbed.output.text);
  expect(tokenIds(events)).toHaveLength(400);
  const alone = await runToEnd(client, { ...job, steering: { alpha: 0.7 } });
  expect(alone.output.text).not.toBe(output.text);
  await second.stop();
});

test("a worker is killed while the base on another server answers it: another worker finishes the job with the text of a local base", async () => {
  const { client } = stack;
  const model = "atlas-remote";
  const base = await serveDemoBase();
  const TRIMTAB_MODELS = writeManifest(model, base.url);
  const first = await stack.startWorker({ ...LEASES, TRIMTAB_MODELS });
  const { id } = await client.submit({ ...LONG_JOB, model });
  const reader = new EventReader(client, id);
  await reader.hasTokens(20);
  // Its next call is on its way.
  const called = Promise.withResolvers<void>();
  base.server.intercept = async () => {
    called.resolve();
    return null;
  };
  await called.promise;
  first.child.kill("SIGKILL");
  const second = await stack.startWorker({ TRIMTAB_MODELS });
  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  const starts = events.filter((event) => event.type === "started");
  expect(starts).toMatchObject([{ attempt: 1 }, { attempt: 2 }]);
  const job = await client.read(id);
  expect(job.usage!.remote_base).toMatchObject({ bounded_tokens: 0 });
  const undisturbed = await runToEnd(client, LONG_JOB);
  expect(textOf(events)).toBe(undisturbed.output.text);
  await second.stop();
});

/** The demo base behind a server that imitates llama.cpp's. */
async function serveDemoBase(): Promise<{ server: BaseServer; url: string }> {
  const decoder = await demoDecoder("base");
  const logits = cachedLogits(decoderLogits(decoder, DEMO_VOCAB));
  const served = { logits, vocabSize: DEMO_VOCAB, tokenizer: demoTokenizer };
  const server = new BaseServer(llamaRoutes(served));
  onTestFinished(() => server.close());
  return { server, url: await server.listen() };
}

/** The model `atlas-qa`, and the same with its base on a server. */
function writeManifest(remoteId: string, url: string): string {
  const folder = mkdtempSync(join(tmpdir(), "manifest-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = (name: string) => join(import.meta.dirname, "../../infra/models", name);
  const remote = { url, api: "llama.cpp", model: "demo", tokenizer: path("base") };
  const pair = {
    expert: { path: path("atlas-expert") },
    antiexpert: { path: path("antiexpert") },
  };
  const file = join(folder, "ensembles.json");
  const ensembles = [
    { id: LONG_JOB.model, base: { path: path("base") }, ...pair },
    { id: remoteId, base: remote, ...pair },
  ];
  writeFileSync(file, JSON.stringify({ ensembles }));
  return file;
}
