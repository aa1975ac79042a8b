/** The bodies of webhooks, in the format of Standard Webhooks: `type`, `timestamp` and `data`. */
import * as v from "valibot";
import { Batch } from "./batches.ts";
import { Job } from "./jobs.ts";
import { JobOutput } from "./job-parts.ts";
import { count, EXAMPLE_TIME, field, type Reply } from "./schema.ts";

const timestamp = field(
  v.pipe(v.string(), v.isoTimestamp()),
  "When the message's event happened, as an ISO 8601 time.",
  { examples: ["2026-01-01T00:00:00.812Z"] },
);

const { webhook: _, ...jobFields } = Job.entries;

export const JobWebhookBody = v.strictObject({
  type: field(
    v.picklist(["job.succeeded", "job.failed", "job.cancelled", "job.expired"]),
    "The job ended in this state.",
  ),
  timestamp,
  data: field(
    v.strictObject({
      ...jobFields,
      output: field(
        v.strictObject({
          ...JobOutput.entries,
          text: field(
            v.nullable(v.string()),
            "The generated text. Null if it is left out (`output_omitted`).",
          ),
        }),
        "The job's output.",
      ),
      output_omitted: field(
        v.exactOptional(v.literal(true)),
        "True if parts of the output are left out, because the body would exceed 20 kB or the request sets `store: false`: first the details of tokens, then the text. `GET /v1/jobs/{id}` returns the whole output while the job is kept.",
      ),
    }),
    "The ended job, without its webhook.",
  ),
});
export type JobWebhookBody = Reply<typeof JobWebhookBody>;

/** Of a job that has not ended. It has no output. */
export const JobRunningWebhookBody = v.strictObject({
  type: field(
    v.picklist(["job.started", "job.progress"]),
    "`job.started`: a worker has started the job for the first time. `job.progress`: it has more tokens. Only receivers whose `events` name them get these messages.",
  ),
  timestamp,
  data: field(
    v.strictObject({
      ...v.pick(Job, ["id", "object", "model", "created_at", "started_at", "metadata"]).entries,
      state: field(v.literal("running"), "The job's state when the message was made: `running`."),
      completion_tokens: field(
        v.exactOptional(count),
        "Generated tokens so far. Only in `job.progress`. A message may arrive after a newer one, or after the end.",
        { examples: [128] },
      ),
      max_tokens: field(
        v.exactOptional(count),
        "The most tokens that the job generates. Only in `job.progress`.",
        { examples: [512] },
      ),
    }),
    "The job.",
  ),
});
export type JobRunningWebhookBody = Reply<typeof JobRunningWebhookBody>;

/** As OpenAI's API sends it: its clients know these types (`webhooks.unwrap`). */
export const ResponseWebhookBody = v.strictObject({
  id: field(v.string(), "The id of the message, as in the header `webhook-id`."),
  object: field(v.literal("event"), "The type of this object: `event`."),
  created_at: field(count, "When the response ended, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  type: field(
    v.picklist([
      "response.completed",
      "response.incomplete",
      "response.failed",
      "response.cancelled",
    ]),
    "The response ended with this status. Only requests of `/v1/responses` have this message, beside that of their job.",
  ),
  timestamp,
  data: field(
    v.strictObject({
      id: field(v.string(), "The response's id.", { examples: ["resp_0198c2f4"] }),
    }),
    "The response, which `GET /v1/responses/{id}` returns.",
  ),
});
export type ResponseWebhookBody = Reply<typeof ResponseWebhookBody>;

export const BatchWebhookBody = v.strictObject({
  type: field(
    v.picklist(["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]),
    "The batch ended in this state.",
  ),
  timestamp,
  data: field(Batch, "The ended batch, whose result files can be read."),
});
export type BatchWebhookBody = Reply<typeof BatchWebhookBody>;

export const TestWebhookBody = v.strictObject({
  type: field(
    v.literal("webhook.test"),
    "A test, which `POST /v1/webhook_endpoints/{id}/test` sends.",
  ),
  timestamp,
  data: field(
    v.strictObject({ endpoint: field(v.string(), "The id of the endpoint.") }),
    "The endpoint that the test is for.",
  ),
});

export const WebhookBody = v.variant("type", [
  JobWebhookBody,
  JobRunningWebhookBody,
  ResponseWebhookBody,
  BatchWebhookBody,
  TestWebhookBody,
]);
export type WebhookBody = Reply<typeof WebhookBody>;
