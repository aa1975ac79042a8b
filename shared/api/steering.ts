/** The steering of a request: logits = base + alpha * (expert - antiexpert), and the bounds of that shift. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { field, integer, nonEmpty, number, optional, positive } from "./schema.ts";

const alpha = number(LIMITS.alphaMin, LIMITS.alphaMax);

export const AlphaSchedule = v.pipe(
  v.array(v.strictTuple([integer(0, LIMITS.maxTokensMax), alpha])),
  v.minLength(1),
  v.maxLength(LIMITS.scheduleKnotsMax),
  v.check(
    (knots) => knots.every(([position], i) => i === 0 || position > knots[i - 1]![0]),
    "Expected knots with rising positions",
  ),
  v.description(
    "Knots of [position, alpha] with rising positions. A position counts the tokens generated before. Alpha is linear between knots, and constant before the first and after the last.",
  ),
);

export const PAIR_CONFLICTS = ["add", "elect"] as const;

export const ExpertPairs = v.pipe(
  v.array(
    requestObject({
      model: field(
        nonEmpty(LIMITS.modelCharsMax),
        "A model over the same base, whose expert and antiexpert are used.",
        { examples: ["atlas-qa"] },
      ),
      weight: optional(
        positive(LIMITS.pairWeightMax),
        "The pair's share in the shift, above 0. Alpha times the weight must stay in the alpha range of the pair's model.",
        { default: 1 },
      ),
    }),
  ),
  v.minLength(1),
  v.maxLength(LIMITS.pairsMax),
  v.check(
    (pairs) => new Set(pairs.map(({ model }) => model)).size === pairs.length,
    "Expected different models",
  ),
  v.description("Expert/antiexpert pairs of different models over one base."),
);

export const Guards = requestObject({
  base_nucleus: optional(
    positive(1),
    "Restricts tokens to the base's nucleus of this probability mass, above 0. 1 turns the guard off.",
    { default: 1 },
  ),
  kl_budget: optional(
    positive(LIMITS.klBudgetMax),
    "The most KL(steered || base) at each token, in nats, above 0. Alpha is scaled down where needed. Without it the guard is off.",
    { examples: [0.5] },
  ),
  fallback: optional(
    positive(1),
    "A total variation distance between expert and antiexpert, above 0. At tokens where the distance is smaller, the base is used alone. Without it the guard is off.",
    { examples: [0.05] },
  ),
});

export const Gate = v.pipe(
  requestObject({
    min_entropy: optional(
      number(0, LIMITS.gateEntropyMax),
      "The shift is applied only at tokens where the entropy of the base's distribution (at temperature 1) is at least this, in nats.",
      { examples: [0.5] },
    ),
    max_margin: optional(
      number(0, LIMITS.gateMarginMax),
      "The shift is applied only at tokens where the base's two largest logits differ by at most this, in nats.",
      { examples: [2] },
    ),
  }),
  v.check(
    ({ min_entropy, max_margin }) => (min_entropy ?? max_margin ?? null) !== null,
    "Expected min_entropy, max_margin or both",
  ),
);

export const Steering = v.pipe(
  requestObject({
    alpha: optional(
      alpha,
      "The strength of the shift: 0 is the base alone, 1 the setting of the proxy-tuning paper. The range is 0 to the model's maximum, or the range of the API key. The default is the model's own (`alpha.default` in `GET /v1/models`).",
      { examples: [1] },
    ),
    schedule: optional(
      AlphaSchedule,
      "An alpha that depends on the position in the output, instead of `alpha`.",
      {
        examples: [
          [
            [0, 1.5],
            [64, 0.5],
          ],
        ],
      },
    ),
    pairs: optional(
      ExpertPairs,
      "Several experts over one base: base + alpha * sum of weight * (expert - antiexpert). The default is the model's own pair with weight 1.",
    ),
    pair_conflicts: optional(
      v.picklist(PAIR_CONFLICTS),
      "Only with several pairs: what happens at a token that some pairs make more likely and others less. `add` adds all shifts, so that they may cancel. `elect` adds only the shifts, in log-probability, that have the sign of their sum.",
      { default: "add" },
    ),
    guards: optional(Guards, "Bounds of the shift. The default is no guard."),
    gate: optional(
      Gate,
      "Applies the shift only where the base is unsure: at all other tokens the base is used alone, as with alpha 0, and the experts and antiexperts are not run, which saves their time. Nothing is drafted for such a request, so alone it may be slower. Where the base is sure of what the pair should prevent, such as not to end its answer, a gate lets it through. With both conditions, both must hold. Scores and log-probabilities of a prompt follow the same rule. Not for a base on another server. The default is no gate.",
    ),
    base_error_max: optional(
      number(0, 1),
      "Only for a base on another server: the largest bound of the total variation distance between the distribution that a token is drawn from and the exact one, before top_k, top_p and min_p, and at temperature 1 if it is greedy. 0 wants every token proven. `base_error_action` says what happens at a token above the bound.",
      { default: 0 },
    ),
    base_error_action: optional(
      v.picklist(["fail", "base"]),
      "Only for a base on another server: what happens at a token whose bound is larger than `base_error_max`. `fail` ends the job with `base_failed`. `base` draws the token from the base alone, as with alpha 0; the job fails only if the bound of that draw is too large as well.",
      { default: "fail" },
    ),
    trace: optional(
      v.boolean(),
      `Whether to report for every token how steering changes it. \`max_tokens\` times the reported entries per token (8, and 1 + \`logprobs\`) must be at most ${LIMITS.reportEntriesMax}.`,
      { default: false },
    ),
  }),
  v.forward(
    v.check(
      ({ alpha, schedule }) => (alpha ?? null) === null || (schedule ?? null) === null,
      "Expected absent if alpha is set",
    ),
    ["schedule"],
  ),
  v.description("How the base is steered by its expert and antiexpert."),
);
