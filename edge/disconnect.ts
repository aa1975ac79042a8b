/**
 * `Cancel-On-Disconnect: true` on a request that submits: whoever goes before the answer is whole cancels its jobs. Without
 * it, a client that vanishes cancels nothing. Cloudflare tells a Worker at once; workerd on its own learns that a connection
 * is gone only when it writes to it, so there this holds for streams, from the next token or heartbeat on.
 */
import { AppError } from "../shared/errors.ts";
import type { AppContext } from "./context.ts";

const HEADER = "Cancel-On-Disconnect";
/** A boolean as people write it, and as structured fields do. */
const VALUES: Readonly<Record<string, boolean>> = {
  true: true,
  "1": true,
  "?1": true,
  false: false,
  "0": false,
  "?0": false,
};

/** @throws AppError invalid_request */
export function cancelsOnDisconnect(c: AppContext): boolean {
  const header = c.req.header(HEADER);
  if (header === undefined) return false;
  const value = VALUES[header.toLowerCase()];
  if (value !== undefined) return value;
  throw new AppError("invalid_request", `${HEADER} must be true or false`, { param: HEADER });
}

/** From now on the client's going cancels the jobs. */
export function cancelWithClient(c: AppContext, jobIds: readonly string[]): void {
  const { signal } = c.req.raw;
  const cancel = () => {
    const cancelled = Promise.allSettled(jobIds.map((id) => c.var.backend.cancel(id)));
    c.set("lastWill", cancelled);
    // Otherwise workerd ends what a request began when its client goes.
    c.executionCtx.waitUntil(cancelled);
  };
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
}
