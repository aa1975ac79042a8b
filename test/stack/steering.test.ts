/** Steering options and what is told of tokens, through the whole line: a takeover in the middle loses no entry. */
import OpenAI from "openai";
import { expect, test } from "vitest";
import type { JobInput } from "../../infra/job-client.ts";
import { allEvents, finished, LONG, Reader, SHORT, tokenIds, useStack } from "./stack.ts";

const stack = useStack(null);

test("a chat's log-probabilities and trace are told whole and streamed alike", async () => {
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
  const told = whole.choices[0]?.logprobs?.content ?? [];
  expect(told).toHaveLength(whole.usage?.completion_tokens ?? -1);
  expect(whole.choices[0]).toHaveProperty("trace.length", told.length);
  const streamed = await openai.chat.completions.stream(chat).finalChatCompletion();
  const again = streamed.choices[0]?.logprobs?.content ?? [];
  expect(again.map(({ token }) => token)).toEqual(told.map(({ token }) => token));
  for (const [i, { logprob, top_logprobs }] of again.entries()) {
    // Drafts come and go with the timing, and change the last bits.
    expect(logprob).toBeCloseTo(told[i]?.logprob ?? Number.NaN, 2);
    expect(top_logprobs).toHaveLength(3);
  }
  await worker.stop();
});

test("a job whose worker is killed is told of every token once, within its guards", async () => {
  const { client } = stack;
  const steering: JobInput["steering"] = {
    schedule: [
      [0, 1],
      [45, 0],
    ],
    guards: { base_nucleus: 0.95, kl_budget: 0.5 },
    trace: true,
  };
  const first = await stack.startWorker();
  const { id } = await client.submit({ ...LONG, max_tokens: 60, logprobs: 1, steering });
  const reader = new Reader(client, id);
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
  const plain = await client.submit(SHORT);
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
  const job = { ...LONG, max_tokens: 400, steering: { alpha: 1, pairs, trace: true } };
  const first = await stack.startWorker();
  const { id } = await client.submit(job);
  const reader = new Reader(client, id);
  await reader.hasTokens(10);
  first.child.kill("SIGKILL");
  const second = await stack.startWorker();
  const events = await reader.ended;
  const { output, steering, attempts } = await client.read(id);
  expect([attempts, steering.pairs]).toEqual([2, pairs]);
  const undisturbed = await finished(client, job);
  expect(output.text).toBe(undisturbed.output.text);
  expect(tokenIds(events)).toHaveLength(400);
  const alone = await finished(client, { ...job, steering: { alpha: 0.7 } });
  expect(alone.output.text).not.toBe(output.text);
  await second.stop();
});
