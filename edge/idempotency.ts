/**
 * One job for a request that is sent again. With an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header) the
 * caller says so; an official `openai` client sends none, but counts its retries: then the same body from the same API key
 * is the same request. In both cases the repetition gets the job itself, in whatever state it is.
 */
import { sha256Hex } from "../shared/api-key.ts";
import type { Repetition } from "../shared/admission.ts";
import { AppError } from "../shared/errors.ts";
import { idempotencyKey, retryKey } from "../shared/redis-keys.ts";
import type { AppContext } from "./context.ts";

const HEADER = "Idempotency-Key";
const DAY_MS = 24 * 3600 * 1000;
/** Clients give an answer up after ten minutes by default, and retry then. */
const RETRY_WINDOW_MS = 15 * 60 * 1000;
/** A structured field's string, in quotes, with its escapes; or what most send: the bare text. */
const KEY = /^(?:"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"|([\x21\x23-\x7e]{1,255}))$/;

/**
 * @param submission the whole of the checked request
 * @returns null if the request cannot be told from a new one that says the same
 * @throws AppError invalid_request
 */
export async function repetitionOf(c: AppContext, submission: object): Promise<Repetition | null> {
  const header = c.req.header(HEADER);
  const retries = c.req.header("x-stainless-retry-count");
  if (header === undefined && retries === undefined) return null;
  const fingerprint = await sha256Hex(`${c.req.path}\n${JSON.stringify(submission)}`);
  const { tenant, id } = c.var.principal;
  if (header === undefined) {
    const isRetry = /^[1-9]\d{0,8}$/.test(retries ?? "");
    return {
      name: retryKey(id, fingerprint),
      fingerprint,
      isNew: !isRetry,
      ttlMs: RETRY_WINDOW_MS,
    };
  }
  const [, quoted, bare] = KEY.exec(header) ?? [];
  const key = quoted?.replaceAll(/\\(.)/g, "$1") ?? bare;
  if (key === undefined) {
    const message = `${HEADER} must be 1 to 255 printable ASCII characters, in double quotes if there is a space`;
    throw new AppError("invalid_request", message, { param: HEADER });
  }
  const name = idempotencyKey(tenant, await sha256Hex(key));
  return { name, fingerprint, isNew: false, ttlMs: DAY_MS };
}

export function reusedError(): AppError {
  const message = `This ${HEADER} was used within the last day for another request`;
  return new AppError("idempotency_key_reused", message, { param: HEADER });
}
