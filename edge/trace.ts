/** Which trace a request belongs to, as W3C Trace Context tells it: the job keeps it, and its worker logs it. */
import type { AppContext } from "./context.ts";

/** version-traceid-parentid-flags; later versions may say more behind. */
const TRACEPARENT =
  /^(?!ff)([\da-f]{2})-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}(?=-|$)/;

/** The `traceparent`, or null where there is none or it is malformed: then the standard wants it ignored. */
export function traceparentOf(c: AppContext): string | null {
  const header = c.req.header("traceparent") ?? "";
  const [known, version] = TRACEPARENT.exec(header) ?? [];
  return known === undefined || (version === "00" && known !== header) ? null : known;
}
