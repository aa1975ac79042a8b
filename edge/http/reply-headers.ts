/** Headers of replies that middleware or several routes set, as the OpenAPI document describes them. */
import * as v from "valibot";
import { field } from "../../shared/api/schema.ts";

const COUNT = v.pipe(v.string(), v.regex(/^\d+$/));

/** Headers of every reply. */
export const COMMON_HEADERS = {
  "x-request-id": field(
    v.string(),
    "Identifies the request in logs and in error bodies. A request's own `x-request-id` is kept if it has at most 128 characters of A-Z, a-z, 0-9, `_`, `-` and `=`.",
    { examples: ["req_3kTMd9vQ2xYbLr7HnWc5ZpAs"] },
  ),
};

/** Headers of every reply in Anthropic's protocol. */
export const MESSAGE_HEADERS = {
  "request-id": field(v.string(), "The same as `x-request-id`, as Anthropic's clients read it.", {
    examples: ["req_3kTMd9vQ2xYbLr7HnWc5ZpAs"],
  }),
};

/** Headers of replies to requests that create an object. */
export const LOCATION = {
  Location: field(v.string(), "The path of the object that the request created.", {
    examples: ["/v1/jobs/job_0198c2f4e5b07a31"],
  }),
};

/** Headers of every error. */
export const ERROR_HEADERS = {
  "x-should-retry": field(
    v.picklist(["true", "false"]),
    "Whether the official `openai` clients retry the request.",
    { examples: ["false"] },
  ),
};

/** Headers of errors after which a retry can help. */
export const RETRY_HEADERS = {
  "Retry-After": field(COUNT, "Seconds after which a retry can succeed.", { examples: ["2"] }),
  "retry-after-ms": field(
    COUNT,
    "Milliseconds after which a retry can succeed. Absent if that takes longer than a minute.",
    { examples: ["2000"] },
  ),
};

/** Headers of errors with status 401. */
export const UNAUTHORIZED_HEADERS = {
  "WWW-Authenticate": field(v.string(), "The authentication scheme that the API accepts.", {
    examples: ['Bearer realm="trimtab"'],
  }),
};
