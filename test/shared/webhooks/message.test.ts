import { expect, test } from "vitest";
import type { Job } from "../../../shared/api/jobs.ts";
import type { TokenLogprob } from "../../../shared/api/token-details.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { deliveryIdOf, jobMessage, deliveryIdParts } from "../../../shared/webhooks/message.ts";
import { messageId } from "../../../shared/jobs/ids.ts";
import { endedJob } from "../../support/job.ts";

const logprob: TokenLogprob = { id: 5, token: "a", logprob: -0.5, top: [] };

interface Body {
  readonly data: { readonly output: object; readonly output_omitted?: boolean };
}

const bodyOf = (output: Job["output"]) => JSON.parse(jobMessage(endedJob({ output })).body) as Body;

test("a message contains the whole output if it is short", () => {
  const output = { text: "hello", finish_reason: "stop", logprobs: [logprob] } as const;
  const { data } = bodyOf(output);
  expect(data.output).toEqual(output);
  expect(data).not.toHaveProperty("output_omitted");
});

test("if the output is too long, its token details are left out, and if that is not enough also its text", () => {
  const logprobs = Array.from({ length: 1_000 }, () => logprob);
  const { data } = bodyOf({ text: "hello", finish_reason: "stop", logprobs });
  expect(data).toMatchObject({ output_omitted: true, metadata: { a: "b" } });
  expect(data.output).toEqual({ text: "hello", finish_reason: "stop" });
  const text = "é".repeat(LIMITS.webhookBodyBytesMax / 2);
  const long = bodyOf({ text, finish_reason: "stop", logprobs }).data;
  expect(long.output).toEqual({ text: null, finish_reason: "stop" });
});

test("without output, the text is not in the message", () => {
  const message = jobMessage(endedJob({ output: { text: "hello", finish_reason: "stop" } }), false);
  expect((JSON.parse(message.body) as Body).data).toMatchObject({
    output: { text: null, finish_reason: "stop" },
    output_omitted: true,
  });
});

test("the ids of a message and an endpoint can be read from a delivery's id", () => {
  const id = deliveryIdOf(messageId("job_ab-2"), "ep_c");
  expect(deliveryIdParts(id)).toEqual({ messageId: "msg_ab-2", endpointId: "ep_c" });
});
