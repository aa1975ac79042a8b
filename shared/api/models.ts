/** The models of `GET /v1/models`. */
import * as v from "valibot";
import { pageSchema } from "./lists.ts";
import { count, EXAMPLE_TIME, field, type Reply } from "./schema.ts";

/**
 * A model: an ensemble of base, expert and antiexpert. It has the members of OpenAI's model object, and the steering that the
 * model allows.
 */
export const Model = v.strictObject({
  id: field(
    v.string(),
    "The model's name, which requests give as `model`. It may contain slashes.",
    {
      examples: ["atlas-qa"],
    },
  ),
  object: field(v.literal("model"), "The type of this object: `model`."),
  created: field(count, "When the model was created, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  owned_by: field(v.string(), "Always `trimtab`."),
  description: field(v.string(), "What the model is for."),
  context_tokens: field(
    count,
    "The context length: prompt and output together have at most this many tokens.",
    {
      examples: [2048],
    },
  ),
  context_length: field(
    count,
    "The same as `context_tokens`, under the name that OpenRouter uses.",
    {
      examples: [2048],
    },
  ),
  max_model_len: field(count, "The same as `context_tokens`, under the name that vLLM uses.", {
    examples: [2048],
  }),
  job_tokens_max: field(
    v.nullable(count),
    "Prompt and output of one job can have at most this many tokens together, on the largest of the live workers: its memory for KV caches may hold less than the context. A request that needs more is refused with `context_length_exceeded`. With alpha 0 only the base needs memory, so a job may have more tokens. Null if no live worker has told it.",
    { examples: [2048] },
  ),
  slow_graphs: field(
    v.array(
      v.strictObject({
        role: field(v.string(), "`base`, `expert` or `antiexpert`.", { examples: ["base"] }),
        reason: field(v.string(), "Why its graph could not be prepared.", {
          examples: ["its attention stays within chunks of the context"],
        }),
      }),
    ),
    "The models whose ONNX graphs run as they were exported: each sequence alone, its whole KV cache copied at every token, and without drafts. Empty if all run fast.",
    { examples: [[]] },
  ),
  alpha: field(
    v.strictObject({
      default: field(v.number(), "The alpha of requests that set none."),
      max: field(
        v.number(),
        "The largest alpha that a request may set, unless its API key has an alpha range. The smallest is 0.",
      ),
    }),
    "The steering strengths that the model allows.",
  ),
  status: field(
    v.picklist(["available", "base_away", "no_worker", "paused"]),
    "`available`: a live worker serves the model. `base_away`: workers serve it, but its base is on another server that answers none of them. `no_worker`: no worker serves it now. `paused`: the operator lets its jobs wait. Requests for the model are accepted, and their jobs wait for a worker. A model that no worker has served for a day is not listed any more, and requests for it are refused with `model_not_found`.",
  ),
  status_reason: field(
    v.nullable(v.string()),
    "With `base_away`, why a worker cannot use the base. Otherwise null.",
  ),
  since: field(
    v.nullable(count),
    "When the first of its live workers began to serve the model, as a Unix time in seconds. Null without a live worker.",
    { examples: [EXAMPLE_TIME] },
  ),
  workers: field(
    count,
    "Live workers that serve the model. A worker sends a heartbeat every 2 s and counts as lost after 10 s without one.",
    {
      examples: [2],
    },
  ),
  slots: field(
    count,
    "Jobs that these workers can run at the same time, together. They may serve other models with the same slots.",
    { examples: [16] },
  ),
  fingerprints: field(
    v.array(v.string()),
    "Identifies the weights, tokenizers and templates of the model's base, expert and antiexpert. More than one: its workers serve different weights under this name. A running job is continued only by a worker with the fingerprint that it started with. Without a live worker: that of the last one.",
    { examples: [["9f2c4e…"]] },
  ),
  reproducible: field(
    v.boolean(),
    "Whether the same request with the same seed always gives the same text, alone or beside other requests, and also if another worker continues it. False for models with quantized activations (`int8`, most `q4`) whose runs are not exact, as a worker finds out when it prepares them, for execution providers on which this is not tested, and while workers serve different weights.",
  ),
});
export type Model = Reply<typeof Model>;

/** `GET /v1/models` */
export const ModelList = pageSchema(Model);
