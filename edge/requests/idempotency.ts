/**
 * Idempotency: a request that is sent again must not create a second job. A client can send an `Idempotency-Key`
 * (draft-ietf-httpapi-idempotency-key-header). The official `openai` clients send none but count their retries: a retry with
 * the same body and API key is the same request. In both cases the repetition gets the job of the first request, in any
 * state. This file only makes the claim: the script that creates the jobs decides (shared/redis/idempotency.ts).
 */
import * as v from "valibot";
import { sha256Hex } from "../../shared/ids.ts";
import type { IdempotencyClaim } from "../../shared/redis/idempotency.ts";
import { AppError } from "../../shared/api/errors.ts";
import { idempotencyKey, retryKey } from "../../shared/redis/keys.ts";
import { field } from "../../shared/api/schema.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";

const HEADER = "Idempotency-Key";
const RETRY_COUNT_HEADER = "x-stainless-retry-count";
const DAY_MS = 24 * 3600 * 1000;
/** By default the `openai` clients wait ten minutes for an answer before they retry. */
const RETRY_WINDOW_MS = 15 * 60 * 1000;
/** A string as a structured field (RFC 8941), in quotes and with escapes; or, as most clients send it, the bare text. */
const KEY = /^(?:"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"|([\x21\x23-\x7e]{1,255}))$/;

/** The contract part of routes that call `idempotencyClaim`. */
export const IDEMPOTENCY: ContractPart = {
  headers: {
    [HEADER]: field(
      v.optional(v.pipe(v.string(), v.regex(KEY))),
      "Makes a retry safe: a request with the same key and the same body within a day gets the job of the first one. With another body the reply is 422. The key is in double quotes, or without quotes if it contains no space.",
      { examples: ["order-4711"] },
    ),
    [RETRY_COUNT_HEADER]: field(
      v.optional(v.string()),
      "Set by the official `openai` clients. Above 0, a request with the same body and API key within 15 minutes gets the job of the first one.",
      { examples: ["1"] },
    ),
  },
  replyHeaders: {
    "Idempotent-Replayed": field(
      v.literal("true"),
      "Present if an earlier request with the same idempotency key created the object in this reply.",
    ),
  },
  errors: ["idempotency_key_reused"],
};

/**
 * The claim of a request.
 * @param request the whole checked request
 * @returns null if the request has neither of the two headers
 * @throws AppError invalid_request
 */
export async function idempotencyClaim(
  c: AppContext,
  request: object,
): Promise<IdempotencyClaim | null> {
  const header = c.req.header(HEADER);
  const retries = c.req.header(RETRY_COUNT_HEADER);
  if (header === undefined && retries === undefined) return null;
  const requestHash = await sha256Hex(`${c.req.path}\n${JSON.stringify(request)}`);
  const { tenant, id } = c.var.principal;
  if (header === undefined) {
    const isRetry = /^[1-9]\d{0,8}$/.test(retries ?? "");
    return {
      key: retryKey(id, requestHash),
      requestHash,
      forceNew: !isRetry,
      ttlMs: RETRY_WINDOW_MS,
    };
  }
  const [, quoted, bare] = KEY.exec(header) ?? [];
  const key = quoted?.replaceAll(/\\(.)/g, "$1") ?? bare;
  if (key === undefined) {
    const message = `${HEADER} must be 1 to 255 printable ASCII characters, in double quotes if there is a space`;
    throw new AppError("invalid_request", message, { param: HEADER });
  }
  return {
    key: idempotencyKey(tenant, await sha256Hex(key)),
    requestHash,
    forceNew: false,
    ttlMs: DAY_MS,
  };
}

/** The error for a key that another request has used. */
export function idempotencyConflict(): AppError {
  const message = `${HEADER} was used for another request within the last 24 hours`;
  return new AppError("idempotency_key_reused", message, { param: HEADER });
}
