/** Scoring of given completions, on the whole stack. */
import { expect, test } from "vitest";
import type { Job } from "../../shared/api/jobs.ts";
import { JobStore } from "../../shared/jobs/store.ts";
import type { Score } from "../../shared/api/score.ts";
import { allEvents, runToEnd, SHORT_JOB, tokenIds, useStack } from "./stack.ts";
import { claimJob } from "../support/claim.ts";

const stack = useStack(null);

async function score(fields: object): Promise<Score> {
  const request = { method: "POST", body: JSON.stringify(fields) };
  const reply = await stack.client.request("/v1/score", request);
  if (reply.status !== 200) throw new Error(await reply.text());
  return (await reply.json()) as Score;
}

test("each token of a generated text has the same probability when it is scored as when it was generated", async () => {
  const worker = await stack.startWorker();
  const { model, messages } = SHORT_JOB;
  const steering = { alpha: 0.8, trace: true };
  const generated = await runToEnd(stack.client, { ...SHORT_JOB, steering, logprobs: 2 });
  const ids = generated.output.trace?.map(({ id }) => id) ?? [];
  const scored = await score({ model, messages, completion: ids, steering, top_logprobs: 2 });
  expect(scored).toMatchObject({ object: "score", text: generated.output.text });
  expect(scored.usage.total_tokens).toBe(generated.usage?.total_tokens);
  for (const [i, token] of scored.tokens.entries()) {
    const then = generated.output.trace![i]!;
    expect([token.id, token.base_token]).toEqual([then.id, then.base_token]);
    for (const role of ["base", "expert", "antiexpert", "steered", "kl"] as const) {
      expect(token[role]).toBeCloseTo(then[role]!, 2);
    }
    // The token that ends the output is not among the log-probabilities of the generated text.
    const { top = token.top } = generated.output.logprobs![i] ?? {};
    expect(token.top.map(({ id }) => id)).toEqual(top.map(({ id }) => id));
  }
  const sum = scored.tokens.reduce((total, { steered }) => total + steered, 0);
  expect(scored.sum.steered).toBeCloseTo(sum, 3);
  expect(scored.mean.steered).toBeCloseTo(sum / ids.length, 3);

  const { text } = generated.output;
  const right = await score({ model, messages, completion: text });
  expect(right.tokens.map(({ id }) => id)).toEqual(ids.filter((id) => id !== 0));
  const wrong = await score({ model, messages, completion: text.replace("paris", "london") });
  expect(right.mean.steered).toBeGreaterThan(wrong.mean.steered);
  const alone = await score({ model, messages, completion: text, steering: { alpha: 0 } });
  expect(alone.sum).toEqual({
    base: alone.sum.steered,
    expert: null,
    antiexpert: null,
    steered: alone.sum.base,
  });
  expect(alone.sum.base).toBeCloseTo(right.sum.base, 2);
  await worker.stop();
});

test("a score whose worker was lost continues after the tokens in its log", async () => {
  const { client } = stack;
  const store = new JobStore(stack.redis, 60_000);
  const completion = Array.from({ length: 100 }, (_, i) => 100 + ((i * i) % 900));
  const job = { model: "atlas-qa", prompt: "the capital of france", completion };
  const submit = async (): Promise<string> => {
    const reply = await client.request("/v1/jobs", { method: "POST", body: JSON.stringify(job) });
    return ((await reply.json()) as Job).id;
  };
  const first = await stack.startWorker();
  const undisturbed = await submit();
  const events = await allEvents(client, undisturbed);
  await first.stop();

  // A worker is too fast to be killed during a score, so the test writes what a killed worker would leave.
  const id = await submit();
  const { fingerprint } = (await store.record(undisturbed))!;
  await claimJob(stack.redis, id, 0, fingerprint);
  const { seq: _, type: __, ...firstTokens } = events.find((event) => event.type === "tokens")!;
  await store.appendTokens(id, 1, 0, firstTokens);
  const second = await stack.startWorker();
  expect(tokenIds(await allEvents(client, id))).toEqual(completion);
  const [cut, whole] = [await client.read(id), await client.read(undisturbed)];
  expect(cut).toMatchObject({ state: "succeeded", attempts: 2 });
  expect(cut.usage?.total_tokens).toBe(whole.usage?.total_tokens);
  expect(cut.output.text).toBe(whole.output.text);
  for (const [i, { steered }] of cut.output.trace!.entries()) {
    expect(steered).toBeCloseTo(whole.output.trace![i]!.steered, 2);
  }
  await second.stop();
});
