/** The values that the handlers of routes need besides the request. */
import type { Log } from "../runtime/log.ts";

/** The scripts and style sheets of the edge's pages. A page without its script only links to the document. */
export interface PageFiles {
  readonly referenceScript: string;
  readonly playScript: string;
  readonly playStyle: string;
  readonly adminScript: string;
  readonly adminStyle: string;
}

export const NO_PAGE_FILES: PageFiles = {
  referenceScript: "",
  playScript: "",
  playStyle: "",
  adminScript: "",
  adminStyle: "",
};

export interface RouteSettings {
  /** Seconds from submission to expiry when a request sets no deadline. */
  readonly deadlineSeconds: number;
  /** The OpenAPI document that the edge serves. */
  readonly document: Readonly<Record<string, unknown>>;
  readonly pages: PageFiles;
  readonly log: Log;
}
