/**
 * The OpenAPI document, assembled from the declarations of the edge's routes and the schemas of shared/api.
 * `npm run openapi` writes it to edge/docs/openapi.json, which the edge serves.
 */
import { isDeepStrictEqual } from "node:util";
import type * as v from "valibot";
import {
  COMMON_HEADERS,
  ERROR_HEADERS,
  MESSAGE_HEADERS,
  RETRY_HEADERS,
  UNAUTHORIZED_HEADERS,
} from "../../edge/http/reply-headers.ts";
import {
  queryFieldsOf,
  TAGS,
  type EventStream,
  type Fields,
  type ReplyDeclaration,
  type Route,
} from "../../edge/http/route.ts";
import { isRecord } from "../../edge/http/query.ts";
import { RATE_LIMITS } from "../../edge/requests/rate-limits.ts";
import { allRoutes } from "../../edge/routes/index.ts";
import { NO_PAGE_FILES } from "../../edge/routes/settings.ts";
import { ERRORS, type ErrorCode, type ErrorEntry } from "../../shared/api/error-codes.ts";
import { ErrorBody, ProblemBody } from "../../shared/api/errors.ts";
import { MessageError } from "../../shared/api/messages.ts";
import { hasMessageErrors } from "../../shared/protocols/message-errors.ts";
import { INTRODUCTION } from "./introduction.ts";
import { pascalCase, SchemaComponents, type JsonSchema } from "./schemas.ts";

type JsonObject = Record<string, unknown>;

/** Only the declarations are read and no handler runs, so the settings do not matter. */
export const ROUTES = allRoutes({
  deadlineSeconds: 0,
  document: {},
  pages: NO_PAGE_FILES,
  log: () => {},
});

export function openapiDocument(routes: readonly Route[] = ROUTES): JsonObject {
  const generator = new DocumentGenerator();
  const paths: Record<string, JsonObject> = {};
  for (const route of routes) {
    const operation = generator.operation(route);
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "trimtab",
      version: "0.1.0",
      summary: "A server for proxy-tuned language models.",
      description: INTRODUCTION,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/", description: "The edge that serves this document." }],
    security: [{ key: [] }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    components: { ...generator.components(), securitySchemes: SECURITY_SCHEMES },
  };
}

const SECURITY_SCHEMES = {
  key: {
    type: "http",
    scheme: "bearer",
    description: "An API key: `tt_…`. It may also be sent in the header `x-api-key`.",
  },
  ticket: {
    type: "apiKey",
    in: "query",
    name: "ticket",
    description:
      "A ticket, `tk_…`, from `POST /v1/jobs/{id}/tickets`. It replaces the API key in one operation on one job.",
  },
};

/** Converts routes, and collects the components that they refer to. */
class DocumentGenerator {
  readonly #schemas = new SchemaComponents();
  readonly #headers = new Map<string, JsonObject>();
  readonly #responses = new Map<string, JsonObject>();

  components(): JsonObject {
    return {
      schemas: this.#schemas.schemas,
      headers: Object.fromEntries(this.#headers),
      responses: Object.fromEntries([...this.#responses].sort(([a], [b]) => (a < b ? -1 : 1))),
    };
  }

  operation(route: Route): JsonObject {
    const { operationId, tag, summary, access } = route;
    const parameters = this.#parameters(route);
    return {
      operationId,
      tags: [tag],
      summary,
      description: describe(route),
      ...(access === "public" && { security: [] }),
      ...(typeof access === "object" &&
        access.ticket && { security: [{ key: [] }, { ticket: [] }] }),
      ...(parameters.length > 0 && { parameters }),
      ...(route.body && { requestBody: this.#body(route.body) }),
      responses: {
        ...Object.fromEntries(
          Object.entries(route.replies).map(([status, reply]) => [
            status,
            this.#reply(route, reply),
          ]),
        ),
        ...this.#errorResponses(errorCodes(route), hasMessageErrors(route.path)),
      },
    };
  }

  #parameters(route: Route): JsonObject[] {
    const { params = {}, uses = [] } = route;
    const headers = uses.map((part) => part.headers ?? {});
    return [
      ...this.#parametersIn("path", params),
      ...this.#parametersIn("query", queryFieldsOf(route)),
      ...headers.flatMap((fields) => this.#parametersIn("header", fields)),
    ];
  }

  #parametersIn(place: "path" | "query" | "header", fields: Fields): JsonObject[] {
    return Object.entries(fields).map(([name, schema]) => {
      const field = this.#textField(schema);
      return {
        name,
        in: place,
        ...(isRecord(schema) && { style: "deepObject", explode: true }),
        ...(place === "path" || !isOptional(schema)
          ? { required: true, ...field }
          : withUnsentExample(field)),
      };
    });
  }

  /** A parameter or header. A value of any type is sent as text. */
  #textField(schema: v.GenericSchema): JsonObject {
    const { description, examples, ...bare } = this.#schemas.convert(schema, "output");
    const [example] = (examples as unknown[] | undefined) ?? [];
    const isNumber = bare["type"] === "integer" && typeof bare["default"] === "string";
    return {
      description,
      schema: isNumber ? { ...bare, default: Number(bare["default"]) } : bare,
      ...(example !== undefined && { example }),
    };
  }

  #body(body: NonNullable<Route["body"]>): JsonObject {
    const { mediaType, schemas, examples } = body;
    const converted = schemas.map((schema) => this.#schemas.convert(schema, "input"));
    const schema = converted.length === 1 ? converted[0] : { anyOf: converted };
    const named = examples.map((value, i) => [componentName(converted[i]), { value }] as const);
    return {
      description: "The request.",
      required: !("mayBeAbsent" in body && body.mayBeAbsent),
      content: { [mediaType]: { schema, examples: Object.fromEntries(named) } },
    };
  }

  #reply(route: Route, reply: ReplyDeclaration): JsonObject {
    const { description, schema, lines, events, mediaType = "application/json", headers } = reply;
    const inherited = (route.uses ?? []).map((part) => part.replyHeaders ?? {});
    const content = {
      ...(schema && { [mediaType]: { schema: this.#named(route, schema) } }),
      ...(lines && { [mediaType]: { schema: this.#lines(lines) } }),
      ...(events && { "text/event-stream": { schema: this.#events(events, route) } }),
    };
    return {
      description,
      headers: this.#headersOf(Object.assign({}, COMMON_HEADERS, ...inherited, headers) as Fields),
      ...(Object.keys(content).length > 0 && { content }),
    };
  }

  /** Generated clients need a name for each object: one that has none is named after the operation. */
  #named({ operationId }: Route, schema: v.GenericSchema): JsonSchema {
    const converted = this.#schemas.convert(schema, "output");
    if (converted["type"] !== "object" && converted["anyOf"] === undefined) return converted;
    return this.#schemas.add(
      `${operationId[0]!.toUpperCase()}${operationId.slice(1)}Reply`,
      converted,
    );
  }

  #lines(lines: readonly v.GenericSchema[]): JsonSchema {
    const schemas = lines.map((schema) => this.#schemas.convert(schema, "output"));
    const names = schemas.map((schema) => `\`${componentName(schema)}\``);
    return {
      type: "string",
      description: `JSON Lines: each line is a ${names.join(" or a ")}.`,
      contentMediaType: "application/jsonl",
      contentSchema: { type: "array", items: { anyOf: schemas } },
    };
  }

  /** For generators of clients a stream is a string, whose content is a list of events. */
  #events({ data, endsWithDone = false }: EventStream, { path }: Route): JsonSchema {
    const schema = this.#schemas.convert(data, "output");
    const error = this.#schemas.convert(
      hasMessageErrors(path) ? MessageError : ErrorBody,
      "output",
    );
    const dataName = componentName(schema);
    const name = `${dataName}ServerSentEvent`;
    const event = this.#schemas.add(name, {
      type: "object",
      description: "A server-sent event.",
      properties: {
        id: {
          type: "string",
          description: "The cursor from which a reader can continue the stream.",
        },
        event: { type: "string", description: "The type of the event." },
        data: {
          type: "string",
          description: `JSON: \`${dataName}\`, or \`${componentName(error)}\` in an event of the type \`error\`.`,
          contentMediaType: "application/json",
          contentSchema: { anyOf: [schema, error] },
        },
      },
      required: ["data"],
    });
    const end = endsWithDone ? " The last event's data is `[DONE]`." : "";
    return {
      type: "string",
      description: `Server-sent events: each has the schema \`${name}\`.${end} A stream that fails ends with an event of the type \`error\`.`,
      contentMediaType: "text/event-stream",
      contentSchema: { type: "array", items: event },
    };
  }

  #headersOf(fields: Fields): JsonObject {
    return Object.fromEntries(
      Object.entries(fields).map(([name, schema]) => {
        const header = this.#textField(schema);
        const known = this.#headers.get(name) ?? header;
        if (!isDeepStrictEqual(known, header))
          throw new Error(`${name}: two different headers have this name`);
        this.#headers.set(name, header);
        return [name, { $ref: `#/components/headers/${name}` }];
      }),
    );
  }

  /** One response for each status; its description lists the error codes. */
  #errorResponses(codes: ReadonlySet<ErrorCode>, ofMessages: boolean): JsonObject {
    // In the order of the table, so that the same codes are the same component.
    const entries = Object.entries(ERRORS).filter(([code]) => codes.has(code as ErrorCode));
    const byStatus = Map.groupBy(entries, ([, { status }]) => status);
    return Object.fromEntries(
      [...byStatus].map(([status, errors]) => [
        status,
        this.#errorResponse(status, errors, ofMessages),
      ]),
    );
  }

  /** @param ofMessages whether the body is that of Anthropic's Messages API */
  #errorResponse(
    status: number,
    errors: readonly (readonly [string, ErrorEntry])[],
    ofMessages: boolean,
  ): JsonObject {
    const codes = errors.map(([code]) => pascalCase(code)).join("Or");
    const name = `${ofMessages ? "MessageError" : "Error"}${status}${codes}`;
    const body = this.#schemas.convert(ofMessages ? MessageError : ProblemBody, "output");
    if (!this.#responses.has(name)) {
      this.#responses.set(name, {
        description: errors.map(([code, { title }]) => `\`${code}\`: ${title}.`).join(" "),
        headers: this.#headersOf({
          ...COMMON_HEADERS,
          ...ERROR_HEADERS,
          ...(ofMessages && MESSAGE_HEADERS),
          ...(status === 401 && UNAUTHORIZED_HEADERS),
          ...(status === 429 && RATE_LIMITS.replyHeaders),
          ...(errors.some(([, { retry }]) => retry) && RETRY_HEADERS),
        }),
        content: {
          [ofMessages ? "application/json" : "application/problem+json"]: { schema: body },
        },
      });
    }
    return { $ref: `#/components/responses/${name}` };
  }
}

function describe({ description, access }: Route): string {
  if (access === "public") return `${description} Needs no API key.`;
  if (access === "any_key") return `${description} The request needs any API key.`;
  const ticket = access.ticket ? `, or a ticket with the action \`${access.ticket}\`` : "";
  return `${description} The request needs an API key with the scope \`${access.scope}\`${ticket}.`;
}

/** The errors that a route can reply with. */
function errorCodes(route: Route): ReadonlySet<ErrorCode> {
  const { access, params, query, body, uses = [], errors = [] } = route;
  const readsInput = body ?? query ?? uses.find((part) => part.query ?? part.headers);
  return new Set<ErrorCode>([
    ...errors,
    ...uses.flatMap((part) => part.errors ?? []),
    ...(access === "public"
      ? []
      : ([
          "invalid_api_key",
          "permission_denied",
          "queue_unavailable",
          "upgrade_in_progress",
        ] as const)),
    ...(readsInput ? (["invalid_request"] as const) : []),
    ...(body || access !== "public" ? (["unsupported_parameter"] as const) : []),
    ...(body ? (["payload_too_large", "request_timeout", "unsupported_media_type"] as const) : []),
    ...(body?.mediaType === "application/json"
      ? (["rate_limit_exceeded", "overloaded"] as const)
      : []),
    ...(params ? (["not_found"] as const) : []),
    "internal",
  ]);
}

/** Scalar's requests contain every parameter that has an example, unless the example is marked so. */
function withUnsentExample({ example, ...field }: JsonObject): JsonObject {
  if (example === undefined) return field;
  return { ...field, examples: { Example: { value: example, "x-disabled": true } } };
}

function isOptional({ type }: v.GenericSchema): boolean {
  return type === "optional" || type === "nullish" || type === "exact_optional";
}

function componentName(schema: JsonSchema | undefined): string {
  return String(schema?.["$ref"]).split("/").at(-1)!;
}
