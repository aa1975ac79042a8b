/**
 * The OpenAPI document: operations.ts says which calls there are, valibot's schemas and the types of replies what is in
 * them. `npm run openapi` writes it to edge/openapi.json, which the edge serves.
 */
import { ERRORS } from "../../shared/errors.ts";
import type { Operation, Reply, SchemaOf } from "./operation.ts";
import { ref } from "./operation.ts";
import { OPERATIONS } from "./operations.ts";
import { HEADERS, PARAMETERS, SUBMISSION_HEADERS, type ParameterName } from "./parameters.ts";
import { replySchemas } from "./replies.ts";
import { requestSchemas, type JsonSchema } from "./schemas.ts";

const PROBLEM = "ProblemBody";
const SUBMISSION_PARAMETERS = [
  "IdempotencyKey",
  "CancelOnDisconnect",
  "Traceparent",
  "RetryCount",
] as const satisfies readonly ParameterName[];

/** Of every error, and of those with some statuses. */
const ERROR_HEADERS = ["x-request-id", "x-should-retry"];
const HEADERS_OF: Readonly<Record<number, readonly string[]>> = {
  401: ["WWW-Authenticate"],
  405: ["Allow"],
  429: [
    "Retry-After",
    "retry-after-ms",
    ...SUBMISSION_HEADERS.filter((name) => /limit/i.test(name)),
  ],
  503: ["Retry-After", "retry-after-ms"],
};

export function openapiDocument(): object {
  const schemas = { ...replySchemas(replyTypes()), ...requestSchemas() };
  const paths: Record<string, Record<string, object>> = {};
  for (const [call, operation] of Object.entries(OPERATIONS)) {
    const [method, path] = call.split(" ") as [string, string];
    paths[path] = { ...paths[path], [method.toLowerCase()]: toOperation(call, operation) };
  }
  return rereferred({
    openapi: "3.1.0",
    info: {
      title: "trimtab",
      version: "0.1.0",
      summary: "A server for proxy-tuned language models.",
      description:
        "At every token the logits of a large base model are shifted by what tuning taught a small one: logits = base + alpha * (expert - antiexpert).",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    security: [{ key: [] }],
    tags: [...new Set(Object.values(OPERATIONS).map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(schemas).sort(([a], [b]) => (a < b ? -1 : 1))),
      parameters: PARAMETERS,
      headers: HEADERS,
      responses: errorResponses(),
      securitySchemes: {
        key: { type: "http", scheme: "bearer", description: "An API key, `tt_…`." },
        ticket: { type: "apiKey", in: "query", name: "ticket", description: "A ticket, `tk_…`." },
      },
    },
  });
}

/** Types that replies, events and errors are of. */
function replyTypes(): string[] {
  const replies = Object.values(OPERATIONS).flatMap(({ replies }) => Object.values(replies));
  const text = JSON.stringify(replies);
  const named = replies.flatMap(({ schema, stream }) => [schema, stream]);
  const within = [...text.matchAll(/#\/definitions\/(\w+)/g)].map(([, name]) => name);
  const all = [PROBLEM, "ErrorBody", ...named, ...within];
  return [...new Set(all.filter((name) => typeof name === "string"))];
}

function toOperation(call: string, operation: Operation): object {
  const { tag, summary, description, isPublic, takesTicket, submits, body, form } = operation;
  const parameters = [...(operation.parameters ?? []), ...(submits ? SUBMISSION_PARAMETERS : [])];
  const replies = Object.entries(operation.replies).map(([status, reply]) => {
    return [status, toReply(reply, submits ? SUBMISSION_HEADERS : [])];
  });
  const errors = errorStatuses(operation, parameters).map((status) => [
    status,
    { $ref: `#/components/responses/Error${status}` },
  ]);
  return {
    operationId: idOf(call),
    tags: [tag],
    summary,
    ...(description && { description }),
    ...(isPublic && { security: [] }),
    ...(takesTicket && { security: [{ key: [] }, { ticket: [] }] }),
    ...(parameters.length > 0 && {
      parameters: parameters.map((name) => ({ $ref: `#/components/parameters/${name}` })),
    }),
    ...(body && { requestBody: toBody(body) }),
    ...(form && { requestBody: toForm(form) }),
    responses: Object.fromEntries([...replies, ...errors]) as object,
  };
}

/** `POST /v1/jobs/{id}/cancel` is `postJobsIdCancel`. */
function idOf(call: string): string {
  const words = call.replace("/v1", "").split(/\W+|_/).filter(Boolean);
  return words
    .map((word, i) => (i === 0 ? word.toLowerCase() : word[0]!.toUpperCase() + word.slice(1)))
    .join("");
}

function errorStatuses(
  { isPublic, submits, body, form, errors = [] }: Operation,
  parameters: readonly ParameterName[],
): number[] {
  const isAny = (where: string) => parameters.some((name) => PARAMETERS[name].in === where);
  const statuses = [
    ...errors,
    ...(isPublic ? [] : [401, 403, 503]),
    ...(body || form || isAny("query") || isAny("header") ? [400] : []),
    ...(body || form ? [413] : []),
    ...(submits ? [404, 422, 429] : []),
    ...(isAny("path") ? [404] : []),
    500,
  ];
  return [...new Set(statuses)].sort((a, b) => a - b);
}

function toBody(body: NonNullable<Operation["body"]>): object {
  const names = Object.keys(body);
  const schema = names.length === 1 ? ref(names[0]!) : { anyOf: names.map(ref) };
  const examples = Object.fromEntries(names.map((name) => [name, { value: body[name] }]));
  return { required: true, content: { "application/json": { schema, examples } } };
}

function toForm(name: string): object {
  return { required: true, content: { "multipart/form-data": { schema: ref(name) } } };
}

function toReply(
  {
    description,
    schema,
    stream,
    isDone = false,
    mediaType = "application/json",
    headers = [],
  }: Reply,
  more: readonly string[],
): object {
  const content = {
    ...(schema !== undefined && { [mediaType]: { schema: schemaOf(schema) } }),
    ...(stream !== undefined && { "text/event-stream": { schema: eventsOf(stream, isDone) } }),
  };
  return {
    description,
    headers: headersOf(["x-request-id", ...headers, ...more]),
    ...(Object.keys(content).length > 0 && { content }),
  };
}

const schemaOf = (schema: SchemaOf) => (typeof schema === "string" ? ref(schema) : schema);

/** Of one event: OpenAPI 3.1 has no word for a sequence of them, so it stands for what `text/event-stream` has. */
function eventsOf(name: string, isDone: boolean): JsonSchema {
  const json = { type: "string", contentMediaType: "application/json", contentSchema: ref(name) };
  return {
    type: "object",
    description: "An event; of an error, its data is an ErrorBody.",
    properties: {
      id: { type: "string" },
      event: { type: "string" },
      data: isDone ? { anyOf: [json, { const: "[DONE]" }] } : json,
    },
    required: ["data"],
  };
}

function headersOf(names: readonly string[]): object {
  return Object.fromEntries(
    names.map((name) => [name, { $ref: `#/components/headers/${name}` }]),
  ) as object;
}

/** One for each status, telling the codes that come with it. */
function errorResponses(): object {
  const statuses = [...new Set(Object.values(ERRORS).map(({ status }) => status))];
  return Object.fromEntries(
    statuses.map((status) => {
      const of = Object.entries(ERRORS).filter(([, error]) => error.status === status);
      return [
        `Error${status}`,
        {
          description: of.map(([code, { title }]) => `\`${code}\`: ${title}.`).join(" "),
          headers: headersOf([...ERROR_HEADERS, ...(HEADERS_OF[status] ?? [])]),
          content: { "application/problem+json": { schema: ref(PROBLEM) } },
        },
      ];
    }),
  ) as object;
}

/** Both generators write `#/definitions/X`. */
function rereferred(document: object): object {
  const text = JSON.stringify(document).replaceAll('"#/definitions/', '"#/components/schemas/');
  return JSON.parse(text) as object;
}
