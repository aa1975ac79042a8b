/** Log-probabilities of a prompt as vLLM has them. */
import * as v from "valibot";
import { count, field, type Reply } from "./schema.ts";

const PromptLogprob = v.strictObject({
  logprob: field(
    v.number(),
    "The token's log-probability in the steered distribution, in nats. -9999 means practically impossible.",
    { examples: [-0.1054] },
  ),
  rank: field(count, "The token's place among all tokens by probability, from 1."),
  decoded_token: field(
    v.string(),
    "The token's text. Bytes that are not whole characters are written as `\\xf0\\x9f`.",
    { examples: [" Paris"] },
  ),
});

export const PromptLogprobs = v.array(v.nullable(v.record(v.string(), PromptLogprob)));
export type PromptLogprobs = Reply<typeof PromptLogprobs>;

/** The member of a reply. */
export const promptLogprobsField = field(
  v.exactOptional(PromptLogprobs),
  "For each token of the prompt, the token itself and the likeliest ones at its position, by their ids. Null for the first token. Present only if the request asks for them.",
);
