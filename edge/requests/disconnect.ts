/**
 * `Cancel-On-Disconnect: true` on a request that submits jobs: if the client disconnects before its answer is complete, the
 * jobs are cancelled. Without the header they continue. Node and Cloudflare notice a disconnect at once.
 */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { field } from "../../shared/api/schema.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";

const HEADER = "Cancel-On-Disconnect";
/** Booleans as people write them, and as structured fields (RFC 8941) do. */
const VALUES: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["1", true],
  ["?1", true],
  ["false", false],
  ["0", false],
  ["?0", false],
]);

/** The contract part of routes that call `cancelsOnDisconnect`. */
export const CANCEL_ON_DISCONNECT: ContractPart = {
  headers: {
    [HEADER]: field(
      v.optional(v.picklist([...VALUES.keys()])),
      "Whether the request's jobs are cancelled when the client disconnects before the answer is complete. The default is false.",
      { examples: ["true"] },
    ),
  },
};

/** Whether the request has the header with a true value. @throws AppError invalid_request */
export function cancelsOnDisconnect(c: AppContext): boolean {
  const header = c.req.header(HEADER);
  if (header === undefined) return false;
  const value = VALUES.get(header.toLowerCase());
  if (value !== undefined) return value;
  throw new AppError("invalid_request", `${HEADER} must be true or false`, { param: HEADER });
}

/** Cancels the jobs when the client disconnects. */
export function cancelOnDisconnect(c: AppContext, jobIds: readonly string[]): void {
  const { signal } = c.req.raw;
  const cancel = () => {
    // The server itself has closed the connection. The client will continue with another one.
    if (c.var.isStopping()) return;
    const cancelled = Promise.allSettled(jobIds.map((id) => c.var.stores.cancelJob(id)));
    c.set("disconnectWork", cancelled);
    // Without it, workerd stops the work of a request when its client disconnects.
    c.executionCtx.waitUntil(cancelled);
  };
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
}
