/** Checks every reply that a test gets against the schema that its route declares. */
import * as v from "valibot";
import type { Route } from "../../edge/http/route.ts";
import { allRoutes } from "../../edge/routes/index.ts";
import { NO_PAGE_FILES } from "../../edge/routes/settings.ts";
import { MessageError } from "../../shared/api/messages.ts";
import { hasMessageErrors } from "../../shared/protocols/message-errors.ts";
import { ErrorBody, ProblemBody } from "../../shared/api/errors.ts";

export const ROUTES = allRoutes({
  deadlineSeconds: 1,
  document: {},
  pages: NO_PAGE_FILES,
  log: () => undefined,
});

/** Streamed reply -> schema of its events. */
const EVENT_SCHEMAS = new WeakMap<Response, v.GenericSchema>();

/** @throws Error if the body is not what the route declares for this status */
export async function checkReply(method: string, url: string, reply: Response): Promise<Response> {
  const { pathname } = new URL(url);
  const declaration = ROUTES.find((route) => matchesRoute(route, method, pathname))?.replies[
    reply.status
  ];
  const type = reply.headers.get("content-type") ?? "";
  if (type === "text/event-stream" && declaration?.events) {
    EVENT_SCHEMAS.set(reply, v.union([declaration.events.data, ErrorBody]));
  }
  const errorSchema = hasMessageErrors(pathname) ? MessageError : ProblemBody;
  const schema = reply.status >= 400 ? errorSchema : declaration?.schema;
  // A reply to HEAD has the headers of GET, and no body.
  if (schema && method !== "HEAD" && type.includes("json")) {
    check(`${method} ${pathname}: ${reply.status}`, schema, await reply.clone().json());
  }
  return reply;
}

/** @throws Error if the data of an event is not what the route declares */
export function checkEvent(reply: Response, data: string): void {
  const schema = EVENT_SCHEMAS.get(reply);
  if (schema && data !== "[DONE]") check("event", schema, JSON.parse(data));
}

function matchesRoute({ method, path }: Route, wantedMethod: string, pathname: string): boolean {
  // Only ids of models may contain slashes.
  const pattern = path.replace(/\{\w+\}/, path.includes("/models/") ? ".+" : "[^/]+");
  return method === wantedMethod && new RegExp(`^${pattern}$`).test(pathname);
}

function check(label: string, schema: v.GenericSchema, value: unknown): void {
  const { issues } = v.safeParse(schema, value);
  if (!issues) return;
  const problems = issues.map((issue) => `${v.getDotPath(issue)}: ${issue.message}`);
  const text = problems.join("; ");
  throw new Error(`${label} differs from its declaration: ${text} in ${JSON.stringify(value)}`);
}
