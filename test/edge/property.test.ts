/** Malformed requests at every route of the OpenAPI document: refused in our words, by name, and never with what is another tenant's. */
import * as fc from "fast-check";
import * as v from "valibot";
import { beforeAll, expect, test } from "vitest";
import document from "../../edge/openapi.json" with { type: "json" };
import { ERRORS } from "../../shared/errors.ts";
import { responseId } from "../../shared/job-names.ts";
import { card, newTenant, play, send, webhooks, type Client } from "./harness.ts";

const RUNS = 8;
/** In all that another tenant has. */
const SECRET = "xyzzy-of-another-tenant";

interface Parameter {
  readonly name: string;
  readonly in: string;
}
interface Operation {
  readonly parameters?: readonly { readonly $ref: string }[];
  readonly requestBody?: {
    readonly content: Readonly<
      Record<string, { examples?: Readonly<Record<string, { readonly value: object }>> }>
    >;
  };
}

const parameters = document.components.parameters as Readonly<Record<string, Parameter>>;
const calls = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods as Readonly<Record<string, Operation>>).map(([method, operation]) => ({
    name: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    path,
    kinds: (operation.parameters ?? []).map(({ $ref }) => $ref.split("/").at(-1)!),
    given: (operation.parameters ?? []).map(({ $ref }) => parameters[$ref.split("/").at(-1)!]!),
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

/** What a program may put where something else is wanted. */
const oddJson = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(null, "", -1, 1e308, 2 ** 53, [], {}, [[]], "__proto__", "\u0000", "\ud800"),
);

/** The example, with something in it put out of place. */
function mutated(example: object, odd: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const places = placesOf(example, []);
  return fc
    .tuple(
      fc.constantFrom(...places),
      odd,
      fc.constantFrom("set", "drop", "add", "leave"),
      fc.string(),
    )
    .map(([place, value, how, name]) => {
      const copy = structuredClone(example) as Record<string, unknown>;
      if (how === "leave") return copy;
      let at = copy;
      for (const key of place.slice(0, -1)) at = at[key] as Record<string, unknown>;
      if (how === "set") at[place.at(-1)!] = value;
      if (how === "drop") delete at[place.at(-1)!];
      if (how === "add") at[name] = value;
      return copy;
    });
}

function placesOf(value: unknown, above: readonly string[]): string[][] {
  if (typeof value !== "object" || value === null) return [];
  return Object.keys(value).flatMap((key) => [
    [...above, key],
    ...placesOf((value as Record<string, unknown>)[key], [...above, key]),
  ]);
}

const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom("", "%", "..", "a/b", "x".repeat(5_000)),
);
/** What clients can send without being warned. */
const headerText = fc.string({
  unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
});
const encoded = text.map((text) => encodeURIComponent(text.toWellFormed()));

interface Sent {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: BodyInit | undefined;
}

function requestsTo(
  { path, method, given, examples }: (typeof calls)[number],
  foreign: readonly string[],
  own: readonly string[],
  anyForeign: readonly string[],
) {
  const named = fc.constantFrom(...anyForeign);
  const id = fc.oneof(
    fc.constantFrom(...foreign, "foreign"),
    fc.constantFrom(...own, "own"),
    encoded,
    fc.constantFrom("%ff", "%00", "__proto__"),
  );
  const odd = fc.oneof(oddJson, named);
  const query = given.filter((parameter) => parameter.in === "query").map(({ name }) => name);
  const header = given.filter((parameter) => parameter.in === "header").map(({ name }) => name);
  const some = (names: readonly string[], values: fc.Arbitrary<string>) =>
    fc.dictionary(fc.constantFrom("x-odd", ...names), values, { maxKeys: 3 });
  const body = fc.oneof(
    ...examples.map((example) => mutated(example, odd).map((value) => JSON.stringify(value))),
    odd.map((value) => JSON.stringify(value)),
    text,
    fc.uint8Array({ maxLength: 64 }).map((bytes) => new Uint8Array(bytes)),
  );
  return fc.record({
    path: fc
      .tuple(id, some(query, fc.oneof(named, encoded, fc.constantFrom("1", "true"))))
      .map(([id, values]) => {
        const pairs = Object.entries(values).map(([name, value]) => `${name}=${value}`);
        return `${path.replace("{id}", id)}?${pairs.join("&")}`;
      }),
    headers: some(header, headerText),
    body: method === "GET" || method === "DELETE" ? fc.constant(undefined) : body,
  }) as fc.Arbitrary<Sent>;
}

/** The request as it is meant, for what has this id. */
function meant({ path, method, examples }: (typeof calls)[number], id: string): Sent {
  const body = method === "GET" || method === "DELETE" ? undefined : JSON.stringify(examples[0]);
  return { path: path.replace("{id}", id), headers: {}, body };
}

/** A tenant with something of every kind, and the ids of it by the names of the document's parameters. */
async function owner(word: string): Promise<{ client: Client; ids: Record<string, string[]> }> {
  const client = await newTenant({ scopes: ["jobs:write", "jobs:read", "admin"] });
  const url = "https://example.com/";
  const job = await client.submit({ metadata: { word }, webhook: { url } });
  await play(job.id, [word]);
  const chat = await client.submit({
    prompt: undefined,
    messages: [{ role: "user", content: word }],
  });
  await play(chat.id, [word]);
  const made = await client.post("/v1/webhook_endpoints", { url, description: word });
  const endpoint = await made.json<{ id: string }>();
  await client.post(`/v1/webhook_endpoints/${endpoint.id}/test`);
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", new File([word], word));
  const authorization = `Bearer ${client.key}`;
  const sent = await send("/v1/files", { method: "POST", headers: { authorization }, body: form });
  const file = await sent.json<{ id: string }>();
  const asked = { input_file_id: file.id, endpoint: "/v1/completions", completion_window: "24h" };
  const batch = await client.post("/v1/batches", { ...asked, metadata: { word } });
  const ids = {
    JobId: [job.id, responseId(chat.id), `chatcmpl-${chat.id}`],
    KeyId: [client.keyId],
    EndpointId: [endpoint.id],
    DeliveryId: await webhooks.deliveries.ids(client.tenant),
    FileId: [file.id],
    BatchId: [(await batch.json<{ id: string }>()).id],
    ModelId: [card.id],
  };
  return { client, ids };
}

/** All that it can read of what it has. */
async function belongings({ client, ids }: Awaited<ReturnType<typeof owner>>): Promise<string> {
  const lists = ["keys", "webhook_endpoints", "webhook_deliveries", "files", "batches"];
  const jobs = ids["JobId"]!.map((id) => `responses/${id.replace(/^(chatcmpl-)?job_/, "resp_")}`);
  const replies = await Promise.all([...lists, ...jobs].map((path) => client.get(`/v1/${path}`)));
  expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200));
  return JSON.stringify(await Promise.all(replies.map((reply) => reply.text())));
}

/** The reply, while a worker answers whatever the request asked for. */
async function answered(
  client: Client,
  sent: Promise<Response>,
): Promise<{ reply: Response; body: string }> {
  const working = new AbortController();
  const worker = (async () => {
    while (!working.signal.aborted) {
      for (const id of await client.queuedJobs()) await play(id, ["Hi"]);
    }
  })();
  try {
    const reply = await sent;
    // What has no end of its own.
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

let victim: Awaited<ReturnType<typeof owner>>;
beforeAll(async () => {
  victim = await owner(SECRET);
});

test.for(calls)("$name", async (call) => {
  const caller = await owner("word");
  const before = await belongings(victim);
  const ofKind = ({ ids }: typeof victim) => call.kinds.flatMap((kind) => ids[kind] ?? []);
  const requests = requestsTo(
    call,
    ofKind(victim),
    ofKind(caller),
    Object.values(victim.ids).flat(),
  );
  await fc.assert(
    fc.asyncProperty(requests, async ({ path, headers, body }) => {
      const sent = send(path, {
        method: call.method,
        headers: { authorization: `Bearer ${caller.client.key}`, ...headers },
        ...(body !== undefined && { body }),
      });
      const { reply, body: said } = await answered(caller.client, sent);
      expect(said).not.toContain(SECRET);
      // Where it streams, the status comes before the error.
      expect(said).not.toContain('"code":"internal"');
      expect(reply.status).toBeLessThan(500);
      if (reply.status < 400) return;
      expect(reply.headers.get("content-type")).toBe("application/problem+json");
      const { status, error } = v.parse(ErrorReply, JSON.parse(said));
      expect(status).toBe(reply.status);
      const isNamed = error.param !== null || error.message.startsWith("The body ");
      expect(status !== 400 || isNamed).toBe(true);
    }),
    { numRuns: RUNS, examples: ofKind(victim).map((id) => [meant(call, id)]) },
  );
  expect(await belongings(victim)).toBe(before);
});
