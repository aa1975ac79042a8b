/** The values that the handlers of routes need besides the request. */
import type { Log } from "../runtime/log.ts";

export interface RouteSettings {
  /** Seconds from submission to expiry when a request sets no deadline. */
  readonly deadlineSeconds: number;
  /** The OpenAPI document that the edge serves. */
  readonly document: Readonly<Record<string, unknown>>;
  /** The script of the API reference. */
  readonly referenceScript: string;
  readonly log: Log;
}
