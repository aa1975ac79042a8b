import { expect, test } from "vitest";
import type { Job } from "../../shared/contract.ts";
import type { TokenLogprob } from "../../shared/reports.ts";
import { LIMITS } from "../../shared/limits.ts";
import { webhookBody } from "../../shared/webhook.ts";

const logprob: TokenLogprob = { id: 5, token: "a", logprob: -0.5, top: [] };

function job(output: Job["output"]): Job {
  return {
    id: "job_1",
    object: "job",
    model: "demo",
    state: "succeeded",
    created_at: 1,
    started_at: 2,
    ended_at: 3,
    deleted_at: 4,
    attempts: 1,
    cancel_requested: false,
    steering: { alpha: 1 },
    seed: 1,
    output,
    usage: null,
    error: null,
    metadata: { a: "b" },
    webhook: null,
  };
}

interface Body {
  readonly data: { readonly output: object; readonly output_omitted?: boolean };
}

const bodyOf = (output: Job["output"]) => JSON.parse(webhookBody(job(output))) as Body;

test("a webhook has all of a short output", () => {
  const output = { text: "hello", finish_reason: "stop", logprobs: [logprob] } as const;
  const { data } = bodyOf(output);
  expect(data.output).toEqual(output);
  expect(data).not.toHaveProperty("output_omitted");
});

test("what is told of each token goes first when it is too long, then the text", () => {
  const logprobs = Array.from({ length: 1_000 }, () => logprob);
  const { data } = bodyOf({ text: "hello", finish_reason: "stop", logprobs });
  expect(data).toMatchObject({ output_omitted: true, metadata: { a: "b" } });
  expect(data.output).toEqual({ text: "hello", finish_reason: "stop" });
  const text = "é".repeat(LIMITS.webhookBodyBytesMax / 2);
  const long = bodyOf({ text, finish_reason: "stop", logprobs }).data;
  expect(long.output).toEqual({ text: null, finish_reason: "stop" });
});
