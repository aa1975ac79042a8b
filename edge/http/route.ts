/**
 * A route and its declaration: path, access, inputs, replies and description in one object, from which validation,
 * authorization and the OpenAPI document follow. The folder http/ owns such building blocks of routes: bodies, streams, pages, the
 * request's context. It knows no particular route and no jobs.
 *
 * This is not hono-openapi, because that library's validator insists on a content type and reads the body itself, whereas
 * here a body is read with a byte limit and curl's default content type is accepted. Error replies, rate-limit headers,
 * tickets and the schemas of server-sent events also follow from a declaration here, and that library has no place for them.
 */
import type { MiddlewareHandler } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as v from "valibot";
import type { ErrorCode } from "../../shared/api/error-codes.ts";
import type { Scope } from "../../shared/api/keys.ts";
import type { TicketAction } from "../../shared/api/tickets.ts";
import type { Reply } from "../../shared/api/schema.ts";
import { parseRequest } from "../../shared/submission/validate.ts";
import { readJson } from "./body.ts";
import type { AppContext, AppEnv } from "./context.ts";
import { HeldBytes } from "./held-bytes.ts";
import { checkQueryNames, queryValues } from "./query.ts";

/** The groups of the API document. */
export const TAGS = {
  Jobs: "Submit generations as jobs, follow them, and score given texts.",
  OpenAI: "The protocols of OpenAI's API, for clients that were written for it.",
  Anthropic: "The protocol of Anthropic's Messages API, for clients that were written for it.",
  Batches: "Files of requests that are answered within a day.",
  Webhooks: "Messages to your own servers when jobs and batches end.",
  Keys: "The tenant's API keys and their use.",
  Operator: "All tenants, for the operator of the service.",
  Service: "Health checks and this documentation.",
} as const;

/** Which API keys may call a route: none is needed (`public`), any, or one with a scope. A ticket may replace it where one is named. */
export type Access =
  | "public"
  | "any_key"
  | { readonly scope: Scope; readonly ticket?: TicketAction };

/** Named inputs or reply headers, each with its description. */
export type Fields = Readonly<Record<string, v.GenericSchema>>;
/** Query parameters by name: their schemas take strings, or arrays of strings. */
export type QueryFields = v.ObjectEntries;
type QueryOutput<Query extends QueryFields> = v.InferOutput<v.ObjectSchema<Query, undefined>>;

/**
 * The part of a route's contract that comes from a function which the handler calls: the inputs that the function reads from
 * the request, the headers that it sets on the reply, and the errors that it throws. It is declared next to that function.
 */
export interface ContractPart {
  readonly query?: Fields;
  readonly headers?: Fields;
  readonly replyHeaders?: Fields;
  readonly errors?: readonly ErrorCode[];
}

/** A stream of server-sent events. */
export interface EventStream {
  /** The JSON in each event's `data`. */
  readonly data: v.GenericSchema;
  /** Whether the last event's `data` is the text `[DONE]`. */
  readonly endsWithDone?: boolean;
}

export interface ReplyDeclaration {
  readonly description: string;
  /** The body; absent if there is none, or only lines or a stream. */
  readonly schema?: v.GenericSchema;
  /** The JSON that each line of a text body can be. */
  readonly lines?: readonly v.GenericSchema[];
  /** The body's media type, if it is not JSON. */
  readonly mediaType?: string;
  /** The body of a reply that streams. */
  readonly events?: EventStream;
  readonly headers?: Fields;
}
/** Replies by status, without the errors. */
type Replies = Readonly<Record<number, ReplyDeclaration>>;

/** A declaration whose body is JSON. */
interface JsonDeclaration {
  readonly schema: v.GenericSchema;
  readonly mediaType?: `${string}json`;
}
/** The statuses of the JSON replies. */
type JsonStatus<Declared extends Replies> = {
  [Status in keyof Declared]: Declared[Status] extends JsonDeclaration ? Status & number : never;
}[keyof Declared];
type DeclaredBody<D> = D extends JsonDeclaration ? Reply<D["schema"]> : never;

/** A reply that a handler made with its `json`. */
type JsonReply = Response & { readonly _format: "declared" };
/** A stream, a page or a reply without a body. Not one of Hono's `c.json`, whose type has `_format: "json"`. */
type OtherReply = Response & { readonly _format?: "body" };
/** If all declared replies are JSON, a handler makes them only with its `json`, which checks the body. */
type HandlerReply<Declared extends Replies> =
  | JsonReply
  | (Declared[keyof Declared] extends JsonDeclaration & { readonly events?: never }
      ? never
      : OtherReply);

type RequestSchema<T> = v.GenericSchema<unknown, T>;

/** A JSON body. */
export interface JsonBody<Body> {
  readonly mediaType: "application/json";
  readonly schemas: readonly RequestSchema<Body>[];
  /** The schema that checks this body. */
  readonly choose: (body: unknown) => RequestSchema<Body>;
  /** A body that works for each schema, in the same order. */
  readonly examples: readonly object[];
  /** Whether no body means `{}`. */
  readonly mayBeAbsent?: boolean;
}

/** A form that the handler reads itself, because it is stored while it arrives. */
export interface FormBody {
  readonly mediaType: "multipart/form-data";
  readonly schemas: readonly v.GenericSchema[];
  readonly examples: readonly object[];
}

/** A JSON body with one schema. @param example a body that the route accepts */
export function jsonBody<Body>(
  schema: RequestSchema<Body>,
  example: object,
  { mayBeAbsent = false } = {},
): JsonBody<Body> {
  return {
    mayBeAbsent,
    mediaType: "application/json",
    schemas: [schema],
    choose: () => schema,
    examples: [example],
  };
}

/** The names in braces of a path. */
type PathName<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? Name | PathName<Rest>
  : never;

type Params<Path extends string> = [PathName<Path>] extends [never]
  ? { readonly params?: never }
  : { readonly params: Readonly<Record<PathName<Path>, v.GenericSchema<string>>> };

interface Declaration<
  Path extends string,
  Query extends QueryFields,
  Body,
  Declared extends Replies,
> {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** As OpenAPI writes it: `/v1/jobs/{id}`. */
  readonly path: Path;
  /** Regular expressions of path parameters that may hold slashes. */
  readonly paramPatterns?: Readonly<Record<string, string>>;
  /** The name of the method in generated clients. */
  readonly operationId: string;
  readonly tag: keyof typeof TAGS;
  readonly summary: string;
  readonly description: string;
  readonly access: Access;
  /** Query parameters that are checked before the handler runs. */
  readonly query?: Query;
  readonly body?: JsonBody<Body> | FormBody;
  /** The contract parts of the functions that the handler calls. */
  readonly uses?: readonly ContractPart[];
  readonly replies: Declared;
  /** Errors besides those that follow from access, inputs and `uses`. */
  readonly errors?: readonly ErrorCode[];
  /** Middleware of this route only; it runs after authorization. */
  readonly middleware?: readonly MiddlewareHandler<AppEnv>[];
}

type RouteDeclaration<
  Path extends string,
  Query extends QueryFields,
  Body,
  Declared extends Replies,
> = Declaration<Path, Query, Body, Declared> & Params<Path>;

interface HandlerInput<
  Path extends string,
  Query extends QueryFields,
  Body,
  Declared extends Replies,
> {
  readonly params: Readonly<Record<PathName<Path>, string>>;
  readonly query: QueryOutput<Query>;
  readonly body: Body;
  /** Makes a JSON reply with a declared status and the body that is declared for it. */
  readonly json: <Status extends JsonStatus<Declared>>(
    status: Status,
    body: DeclaredBody<Declared[Status]>,
  ) => JsonReply;
}

/** A declared route with its handler. The document and the registration need no types of inputs. */
export interface Route extends Omit<Declaration<string, QueryFields, unknown, Replies>, "body"> {
  readonly params?: Readonly<Record<string, v.GenericSchema>>;
  readonly body?:
    | Pick<JsonBody<unknown>, "mediaType" | "schemas" | "examples" | "mayBeAbsent">
    | FormBody;
  /** @throws AppError what checking the inputs or the handler throws */
  readonly handle: (c: AppContext) => Promise<Response>;
}

/**
 * Declares a route.
 * @param handler gets the checked inputs, and `json` for its replies; it runs after authentication and authorization
 */
export function route<
  const Path extends string,
  Query extends QueryFields = Readonly<Record<string, never>>,
  Body = undefined,
  const Declared extends Replies = Replies,
>(
  declaration: RouteDeclaration<Path, Query, Body, Declared>,
  handler: (
    c: AppContext,
    input: HandlerInput<Path, Query, Body, Declared>,
  ) => HandlerReply<Declared> | Promise<HandlerReply<Declared>>,
): Route {
  type Input = HandlerInput<Path, Query, Body, Declared>;
  const { path, access, query, body, replies } = declaration;
  // TypeScript already refuses this. The check is for callers without types.
  if (access === undefined) throw new Error(`${path}: a route must declare its access`);
  // Authentication is a middleware of /v1, so a public route there would still need a key.
  if (access === "public" && path.startsWith("/v1/")) {
    throw new Error(`${path}: routes under /v1 declare a scope`);
  }
  const querySchema = query && v.object(query);
  const takesTicket = typeof access === "object" && access.ticket !== undefined;
  // In the document the ticket is a security scheme.
  const queryFields = { ...queryFieldsOf(declaration), ...(takesTicket && { ticket: v.string() }) };
  // Others may add parameters to the addresses of pages and health checks.
  const checkQuery = (c: AppContext) => access !== "public" && checkQueryNames(c, queryFields);
  const call = async (c: AppContext, held: HeldBytes) => {
    checkQuery(c);
    return handler(c, {
      params: c.req.param() as Input["params"],
      query: (querySchema &&
        parseRequest(querySchema, queryValues(c, querySchema.entries))) as QueryOutput<Query>,
      body: (await readBody(c, body, held)) as Body,
      json: (status, value) => {
        const { mediaType = "application/json" } = replies[status]!;
        const headers = { "Content-Type": mediaType };
        return c.body(
          JSON.stringify(value),
          status as ContentfulStatusCode,
          headers,
        ) as Response as JsonReply;
      },
    });
  };
  const handle = async (c: AppContext) => {
    const held = new HeldBytes(access === "public" ? "" : c.var.principal.tenant);
    return call(c, held).finally(() => held.release());
  };
  return { ...declaration, handle };
}

/** All parameters of a route's query: its own, and those of the functions that its handler calls. */
export function queryFieldsOf({ query, uses = [] }: Pick<Route, "query" | "uses">): Fields {
  return Object.assign({}, query, ...uses.map((part) => part.query)) as Fields;
}

/** @throws AppError as readJson does, unsupported_parameter */
async function readBody<Body>(
  c: AppContext,
  declaration: JsonBody<Body> | FormBody | undefined,
  held: HeldBytes,
): Promise<Body | undefined> {
  if (declaration?.mediaType !== "application/json") return undefined;
  const { mayBeAbsent } = declaration;
  // Without bindings there is no object.
  const openBody = (c.env as AppEnv["Bindings"] | undefined)?.openBody;
  const body = await readJson(c.req.raw, held, { mayBeAbsent, openBody });
  c.set("sentBody", body);
  return parseRequest(declaration.choose(body), body);
}

/** The path as Hono writes it: `/v1/jobs/:id`. */
export function honoPath({ path, paramPatterns = {} }: Route): string {
  return path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const pattern = paramPatterns[name];
    return pattern === undefined ? `:${name}` : `:${name}{${pattern}}`;
  });
}
