import { expect, test } from "vitest";
import type { Job } from "../../shared/contract.ts";
import type { TokenLogprob } from "../../shared/reports.ts";
import { LIMITS } from "../../shared/limits.ts";
import { deliveryIdOf, jobMessage, messageIdOf, partsOf } from "../../shared/webhook.ts";
import { endedJob } from "../support/job.ts";

const logprob: TokenLogprob = { id: 5, token: "a", logprob: -0.5, top: [] };

interface Body {
  readonly data: { readonly output: object; readonly output_omitted?: boolean };
}

const bodyOf = (output: Job["output"]) => JSON.parse(jobMessage(endedJob({ output })).body) as Body;

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

test("an output that is not to be stored is not in it", () => {
  const message = jobMessage(endedJob({ output: { text: "hello", finish_reason: "stop" } }), false);
  expect((JSON.parse(message.body) as Body).data).toMatchObject({
    output: { text: null, finish_reason: "stop" },
    output_omitted: true,
  });
});

test("a delivery's id tells its message and its endpoint", () => {
  const id = deliveryIdOf(messageIdOf("job_ab-2"), "ep_c");
  expect(partsOf(id)).toEqual({ messageId: "msg_ab-2", endpointId: "ep_c" });
});
