/**
 * Random malformed requests to every route of the OpenAPI document. They never get a 5xx or another tenant's data, and every
 * refusal is an error of the API that names the field.
 */
import * as fc from "fast-check";
import * as v from "valibot";
import { beforeAll, expect, test } from "vitest";
import document from "../../../edge/docs/openapi.json" with { type: "json" };
import { ERRORS } from "../../../shared/api/error-codes.ts";
import { MessageError } from "../../../shared/api/messages.ts";
import { responseId } from "../../../shared/jobs/ids.ts";
import { hasMessageErrors } from "../../../shared/protocols/message-errors.ts";
import { card, newTenant, play, send, webhooks, type Client } from "../harness.ts";

const RUNS = 8;
/** A word in all data of another tenant. */
const SECRET = "xyzzy-of-another-tenant";

interface Parameter {
  readonly name: string;
  readonly in: string;
}
interface Operation {
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: {
    readonly content: Readonly<
      Record<string, { examples?: Readonly<Record<string, { readonly value: object }>> }>
    >;
  };
}

const calls = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods as Readonly<Record<string, Operation>>).map(([method, operation]) => ({
    name: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    path,
    /** The resource whose id the path contains: `jobs` in `/v1/jobs/{id}`. */
    resource: /([^/]+)\/\{id\}/.exec(path)?.[1] ?? null,
    parameters: operation.parameters ?? [],
    examples: Object.values(operation.requestBody?.content ?? {}).flatMap(({ examples }) =>
      Object.values(examples ?? {}).map(({ value }) => ({ ...value, ...modelOf(value) })),
    ),
  })),
);

function modelOf(example: object): object {
  return "model" in example ? { model: card.id } : {};
}

const ErrorReply = v.looseObject({
  type: v.pipe(v.string(), v.minLength(1)),
  title: v.string(),
  status: v.number(),
  detail: v.string(),
  error: v.strictObject({
    code: v.picklist(Object.keys(ERRORS)),
    type: v.string(),
    message: v.pipe(v.string(), v.minLength(1)),
    param: v.nullable(v.pipe(v.string(), v.minLength(1))),
    request_id: v.string(),
  }),
});

/** Names that every JavaScript object has. */
const INHERITED = ["__proto__", "constructor", "toString", "hasOwnProperty"];

/** JSON values that a buggy client may send in place of a valid one. */
const oddJson = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(null, "", -1, 1e308, 2 ** 53, [], {}, [[]], "__proto__", "\u0000", "\ud800"),
);

/** The example with one member replaced, removed, added or unchanged. */
function mutated(example: object, odd: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const paths = memberPaths(example, []);
  return fc
    .tuple(
      fc.constantFrom(...paths),
      odd,
      fc.constantFrom("set", "drop", "add", "leave"),
      fc.oneof(fc.string(), fc.constantFrom(...INHERITED)),
    )
    .map(([path, value, change, newName]) => {
      const copy = structuredClone(example) as Record<string, unknown>;
      if (change === "leave") return copy;
      let parent = copy;
      for (const name of path.slice(0, -1)) parent = parent[name] as Record<string, unknown>;
      if (change === "set") parent[path.at(-1)!] = value;
      if (change === "drop") delete parent[path.at(-1)!];
      // An assignment to "__proto__" would add no member.
      if (change === "add") Object.defineProperty(parent, newName, { value, enumerable: true });
      return copy;
    });
}

/** Paths of all members of a value and of the values inside it. */
function memberPaths(value: unknown, parentPath: readonly string[]): string[][] {
  if (typeof value !== "object" || value === null) return [];
  return Object.keys(value).flatMap((key) => [
    [...parentPath, key],
    ...memberPaths((value as Record<string, unknown>)[key], [...parentPath, key]),
  ]);
}

const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom("", "%", "..", "a/b", "x".repeat(5_000)),
);
/** Header values that `fetch` accepts. */
const headerText = fc.oneof(
  fc.string({
    unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
  }),
  fc.constantFrom(...INHERITED),
);
const encoded = text.map((text) => encodeURIComponent(text.toWellFormed()));

interface RequestParts {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: BodyInit | undefined;
}

/**
 * @param foreignIds ids of another tenant's objects of the call's resource
 * @param ownIds ids of the caller's objects of the call's resource
 * @param allForeignIds ids of all objects of the other tenant
 */
function requestsTo(
  { path, method, parameters, examples }: (typeof calls)[number],
  foreignIds: readonly string[],
  ownIds: readonly string[],
  allForeignIds: readonly string[],
) {
  const foreignId = fc.constantFrom(...allForeignIds);
  const id = fc.oneof(
    fc.constantFrom(...foreignIds, "foreign"),
    fc.constantFrom(...ownIds, "own"),
    encoded,
    fc.constantFrom("%ff", "%00", "__proto__"),
  );
  const odd = fc.oneof(oddJson, foreignId);
  const namesIn = (place: string) =>
    parameters.filter((parameter) => parameter.in === place).map(({ name }) => name);
  const anyOf = (names: readonly string[], values: fc.Arbitrary<string>) =>
    fc.dictionary(fc.constantFrom("x-odd", ...names), values, { maxKeys: 3 });
  const body = fc.oneof(
    ...examples.map((example) => mutated(example, odd).map((value) => JSON.stringify(value))),
    odd.map((value) => JSON.stringify(value)),
    text,
    fc.uint8Array({ maxLength: 64 }).map((bytes) => new Uint8Array(bytes)),
  );
  return fc.record({
    path: fc
      .tuple(
        id,
        anyOf(namesIn("query"), fc.oneof(foreignId, encoded, fc.constantFrom("1", "true"))),
      )
      .map(([id, values]) => {
        const pairs = Object.entries(values).map(([name, value]) => `${name}=${value}`);
        return `${path.replace("{id}", id)}?${pairs.join("&")}`;
      }),
    headers: anyOf(namesIn("header"), headerText),
    body: method === "GET" || method === "DELETE" ? fc.constant(undefined) : body,
  }) as fc.Arbitrary<RequestParts>;
}

/** A valid request for the object with this id. */
function validRequest(
  { path, method, examples }: (typeof calls)[number],
  id: string,
): RequestParts {
  const body = method === "GET" || method === "DELETE" ? undefined : JSON.stringify(examples[0]);
  return { path: path.replace("{id}", id), headers: {}, body };
}

interface Owner {
  readonly client: Client;
  /** Resource (a path segment) -> ids of the tenant's objects. */
  readonly ids: Readonly<Record<string, readonly string[]>>;
}

/** Creates a tenant with an object of every resource. @param word is in the data of each object */
async function newOwner(word: string): Promise<Owner> {
  const client = await newTenant({ scopes: ["jobs:write", "jobs:read", "admin"] });
  const url = "https://example.com/";
  const job = await client.submit({ metadata: { word }, webhook: { url } });
  await play(job.id, [word]);
  const chat = await client.submit({
    prompt: undefined,
    messages: [{ role: "user", content: word }],
  });
  await play(chat.id, [word]);
  const endpointReply = await client.post("/v1/webhook_endpoints", { url, description: word });
  const endpoint = await endpointReply.json<{ id: string }>();
  await client.post(`/v1/webhook_endpoints/${endpoint.id}/test`);
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", new File([word], word));
  const authorization = `Bearer ${client.key}`;
  const upload = { method: "POST", headers: { authorization }, body: form };
  const file = await (await send("/v1/files", upload)).json<{ id: string }>();
  const batch = await client.post("/v1/batches", {
    input_file_id: file.id,
    endpoint: "/v1/completions",
    completion_window: "24h",
    metadata: { word },
  });
  const jobs = [job.id, responseId(chat.id), `chatcmpl-${chat.id}`];
  const ids = {
    jobs,
    completions: jobs,
    responses: jobs,
    keys: [client.keyId],
    webhook_endpoints: [endpoint.id],
    webhook_deliveries: await webhooks.deliveries.ids(client.tenant),
    files: [file.id],
    batches: [(await batch.json<{ id: string }>()).id],
    models: [card.id],
    workers: [],
  };
  return { client, ids };
}

/** Everything that the tenant can read of its own data, as text. */
async function readAll({ client, ids }: Owner): Promise<string> {
  const lists = ["keys", "webhook_endpoints", "webhook_deliveries", "files", "batches"];
  const jobs = ids["jobs"]!.map((id) => `responses/${id.replace(/^(chatcmpl-)?job_/, "resp_")}`);
  const replies = await Promise.all([...lists, ...jobs].map((path) => client.get(`/v1/${path}`)));
  expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200));
  return JSON.stringify(await Promise.all(replies.map((reply) => reply.text())));
}

/** Waits for the reply, and plays a worker for all jobs that the request submits. */
async function receive(
  client: Client,
  pending: Promise<Response>,
): Promise<{ reply: Response; body: string }> {
  const working = new AbortController();
  const worker = (async () => {
    while (!working.signal.aborted) {
      for (const id of await client.queuedJobs()) await play(id, ["Hi"]);
    }
  })();
  try {
    const reply = await pending;
    // This stream never ends.
    if (reply.url.includes("webhook_inbox") && reply.ok) {
      await reply.body?.cancel();
      return { reply, body: "" };
    }
    return { reply, body: await reply.text() };
  } finally {
    working.abort();
    await worker;
  }
}

let other: Owner;
beforeAll(async () => {
  other = await newOwner(SECRET);
});

test.for(calls)(
  "$name refuses malformed requests without a 5xx or another tenant's data",
  async (call) => {
    const caller = await newOwner("word");
    const before = await readAll(other);
    const idsOf = ({ ids }: Owner) => (call.resource === null ? [] : ids[call.resource]!);
    const requests = requestsTo(call, idsOf(other), idsOf(caller), Object.values(other.ids).flat());
    await fc.assert(
      fc.asyncProperty(requests, async ({ path, headers, body }) => {
        const pending = send(path, {
          method: call.method,
          headers: { authorization: `Bearer ${caller.client.key}`, ...headers },
          ...(body !== undefined && { body }),
        });
        const { reply, body: replyBody } = await receive(caller.client, pending);
        expect(replyBody).not.toContain(SECRET);
        // A stream has sent its status before an error, so the status alone does not show it.
        expect(replyBody).not.toContain('"code":"internal"');
        if (reply.status < 400) return;
        if (hasMessageErrors(call.path)) return void v.parse(MessageError, JSON.parse(replyBody));
        expect(reply.headers.get("content-type")).toBe("application/problem+json");
        const { status, error } = v.parse(ErrorReply, JSON.parse(replyBody));
        expect(status).toBe(reply.status);
        // No worker runs here, which routes of tokenizers need.
        expect(status < 500 || error.code === "worker_unavailable").toBe(true);
        const isNamed = error.param !== null || /^(The body |Conversations )/.test(error.message);
        expect(status !== 400 || isNamed).toBe(true);
      }),
      { numRuns: RUNS, examples: idsOf(other).map((id) => [validRequest(call, id)]) },
    );
    expect(await readAll(other)).toBe(before);
  },
);
