/** The ended jobs of the last hour, minute by minute: for charts and alerts. */
import * as v from "valibot";
import { count, EXAMPLE_TIME, field, type Reply } from "./schema.ts";
import { UsageSums } from "./usage.ts";

const { succeeded, failed, cancelled, expired, completion_tokens } = UsageSums.entries;

/** The jobs that ended within one minute. */
export const ActivityMinute = v.strictObject({
  at: field(count, "When the minute began, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  succeeded,
  failed,
  cancelled,
  expired,
  prompt_tokens: field(count, "Tokens of their prompts.", { examples: [2_880] }),
  completion_tokens,
  seconds: field(v.number(), "Seconds for which workers ran them.", { examples: [61.25] }),
  started: field(count, "Those of them that a worker had started.", { examples: [118] }),
  wait_seconds: field(v.number(), "Seconds for which these had waited before, together.", {
    examples: [12.5],
  }),
});

/** `GET /v1/activity` and `GET /v1/operator/activity` */
export const Activity = v.strictObject({
  object: field(v.literal("activity"), "The type of this object: `activity`."),
  data: field(
    v.array(ActivityMinute),
    "The last 60 minutes, the oldest first. The last one is not over. A job counts in the minute in which it ended.",
  ),
});
export type Activity = Reply<typeof Activity>;
