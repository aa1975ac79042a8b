/** Batches: the request, the lines of the input and of the result files, and the batch as its owner sees it. */
import * as v from "valibot";
import { ExpiresAfter } from "./files.ts";
import { generationFields, Metadata } from "./generation.ts";
import { LIMITS } from "./limits.ts";
import { pageSchema } from "./lists.ts";
import { requestObject } from "./request-object.ts";
import { count, EXAMPLE_TIME, field, nonEmpty, optional, record, type Reply } from "./schema.ts";

export const BATCH_ENDPOINTS = [
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/responses",
] as const;
export type BatchEndpoint = (typeof BATCH_ENDPOINTS)[number];

/** `POST /v1/batches` */
export const BatchRequest = requestObject({
  input_file_id: field(
    nonEmpty(LIMITS.modelCharsMax),
    `The id of a file with the purpose \`batch\`: one \`BatchLine\` on each line, up to ${LIMITS.batchLinesMax} lines.`,
    { examples: ["file_0198c2f4e5b07a31"] },
  ),
  endpoint: field(v.picklist(BATCH_ENDPOINTS), "The path that every line of the file requests.", {
    examples: ["/v1/chat/completions"],
  }),
  completion_window: field(
    v.literal("24h"),
    "The time in which the batch must end: `24h`. Lines that have not run by then are `expired`.",
  ),
  metadata: generationFields.metadata,
  output_expires_after: optional(
    ExpiresAfter,
    "When the result files are deleted. The default is 30 days after their creation.",
  ),
});

/** One line of a batch's input file. */
export const BatchLine = requestObject({
  custom_id: field(
    nonEmpty(LIMITS.customIdCharsMax),
    "An id of your own. It must be unique in the file, and the line's result repeats it.",
    { examples: ["question-1"] },
  ),
  method: field(v.literal("POST"), "The HTTP method: `POST`."),
  url: field(
    v.picklist(BATCH_ENDPOINTS),
    "The path of the request, which must be the batch's `endpoint`.",
  ),
  body: field(
    record(v.string(), v.unknown()),
    "The request's body, as for this path. `stream` must not be true.",
    {
      examples: [
        {
          model: "atlas-qa",
          messages: [{ role: "user", content: "What is the capital of France?" }],
        },
      ],
    },
  ),
});
export type BatchLine = v.InferOutput<typeof BatchLine>;

/** One line of a batch's output file (answers) or error file. */
export const BatchResult = v.strictObject({
  id: field(v.string(), "The id of this result."),
  custom_id: field(
    v.nullable(v.string()),
    "The `custom_id` of the input line. Null if the line has none that can be read.",
  ),
  response: field(
    v.nullable(
      v.strictObject({
        status_code: field(
          v.number(),
          "The HTTP status that the same request would get outside a batch.",
          {
            examples: [200],
          },
        ),
        request_id: field(v.string(), "The id of the line's (first) job."),
        body: field(v.looseObject({}), "The reply's body: the answer, or an `ErrorBody`."),
      }),
    ),
    "The reply to the line's request. Null if the batch was cancelled or expired before the request was answered.",
  ),
  error: field(
    v.nullable(
      v.strictObject({
        code: field(v.string(), "`batch_cancelled` or `batch_expired`.", {
          examples: ["batch_expired"],
        }),
        message: field(v.string(), "The error in one sentence, for people."),
      }),
    ),
    "Why the line has no reply: the batch was cancelled or expired. Null otherwise.",
  ),
});
export type BatchResult = Omit<Reply<typeof BatchResult>, "response"> & {
  readonly response:
    | (Omit<NonNullable<Reply<typeof BatchResult>["response"]>, "body"> & { readonly body: object })
    | null;
};

export const BATCH_STATES = [
  "validating",
  "in_progress",
  "finalizing",
  "cancelling",
  "completed",
  "failed",
  "expired",
  "cancelled",
] as const;
export type BatchState = (typeof BATCH_STATES)[number];
/** The last four states: the batch does not change after them. */
export type BatchEnd = "completed" | "failed" | "expired" | "cancelled";

const reachedAt = (state: string, example: number | null) =>
  field(
    v.nullable(count),
    `When the batch became \`${state}\`, as a Unix time in seconds. Null if it did not.`,
    { examples: [example] },
  );

export const Batch = v.strictObject({
  id: field(v.string(), "The batch's id.", { examples: ["batch_0198c2f4e5b07a31"] }),
  object: field(v.literal("batch"), "The type of this object: `batch`."),
  endpoint: field(v.picklist(BATCH_ENDPOINTS), "The path that every line requests."),
  input_file_id: field(v.string(), "The id of the input file.", {
    examples: ["file_0198c2f4e5b07a31"],
  }),
  completion_window: field(v.literal("24h"), "The time in which the batch must end: `24h`."),
  status: field(
    v.picklist(BATCH_STATES),
    "The batch's state. The batch does not change after `completed`, `failed`, `expired` or `cancelled`.",
    { examples: ["completed"] },
  ),
  errors: field(
    v.nullable(
      v.strictObject({
        object: field(v.literal("list"), "The type of this object: `list`."),
        data: field(
          v.array(
            v.strictObject({
              code: field(v.string(), "The error's code."),
              message: field(v.string(), "The error in one sentence, for people."),
              line: field(v.nullable(v.number()), "The line that is wrong, or null."),
              param: field(v.nullable(v.string()), "The field that is wrong, or null."),
            }),
          ),
          "The errors.",
        ),
      }),
    ),
    "Why the whole batch failed. Null if it did not.",
    { examples: [null] },
  ),
  output_file_id: field(
    v.nullable(v.string()),
    "The id of the file of answers (`BatchResult` lines). Null until the batch has ended, and also then if no line has an answer.",
    { examples: ["file_0198c2f4e5b07a32"] },
  ),
  error_file_id: field(
    v.nullable(v.string()),
    "The id of the file of errors (`BatchResult` lines). Null until the batch has ended, and also then if no line has an error.",
    { examples: [null] },
  ),
  created_at: field(count, "When the batch was created, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  expires_at: field(count, "When the batch will be `expired`, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME + 24 * 3600],
  }),
  in_progress_at: reachedAt("in_progress", EXAMPLE_TIME + 10),
  finalizing_at: reachedAt("finalizing", EXAMPLE_TIME + 600),
  cancelling_at: reachedAt("cancelling", null),
  completed_at: reachedAt("completed", EXAMPLE_TIME + 610),
  failed_at: reachedAt("failed", null),
  expired_at: reachedAt("expired", null),
  cancelled_at: reachedAt("cancelled", null),
  request_counts: field(
    v.strictObject({
      total: field(count, "Lines of the input file.", { examples: [100] }),
      completed: field(count, "Lines that have an answer.", { examples: [100] }),
      failed: field(count, "Lines that have an error.", { examples: [0] }),
    }),
    "How many lines there are, and how many of them have a result.",
  ),
  usage: field(
    v.strictObject({
      input_tokens: field(count, "Tokens of the prompts."),
      input_tokens_details: field(
        v.strictObject({
          cached_tokens: field(count, "Prompt tokens that workers still had in their KV caches."),
        }),
        "Details of the prompts' tokens.",
      ),
      output_tokens: field(count, "Generated tokens."),
      output_tokens_details: field(
        v.strictObject({
          reasoning_tokens: field(count, "Always 0: there is no separate reasoning."),
        }),
        "Details of the generated tokens.",
      ),
      total_tokens: field(count, "Tokens of prompts and answers."),
    }),
    "The tokens of all lines that have a result so far.",
  ),
  metadata: field(Metadata, "The metadata of the request."),
});
export type Batch = Reply<typeof Batch>;

/** `GET /v1/batches` */
export const BatchPage = pageSchema(Batch);
