/** Runs one case: the request, the schema of its response and of its events, and the rules of the case. */
import * as v from "valibot";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { ResponseObject, ResponseStreamEvent } from "../../shared/api/responses.ts";
import type { Case } from "./cases.ts";

/** Members that the specification requires of every response. */
const REQUIRED = [
  "id object created_at completed_at status incomplete_details model previous_response_id instructions output error tools",
  "tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs temperature reasoning",
  "user usage max_output_tokens max_tool_calls store background service_tier metadata safety_identifier prompt_cache_key",
].flatMap((names) => names.split(" "));

export interface StreamedEvent {
  readonly type: string;
  readonly sequence_number: number;
  readonly item?: { readonly type: string };
  readonly response?: Record<string, unknown>;
}

export interface Outcome {
  readonly response: Record<string, unknown> & {
    readonly output: readonly { readonly type: string }[];
  };
  /** Empty without `stream`. */
  readonly events: readonly StreamedEvent[];
}

export interface Server {
  /** With `/v1`. */
  readonly baseUrl: string;
  readonly key: string;
  readonly model: string;
}

/** @returns what is wrong; nothing if the case passes */
export async function problemsOf(
  server: Server,
  { body, stream = false, problems }: Case,
): Promise<string[]> {
  const reply = await post(server, "/responses", { ...body, stream });
  if (!reply.ok) return [`HTTP ${reply.status}: ${await reply.text()}`];
  const events = stream ? await readEvents(reply) : [];
  const last = events.at(-1)?.response;
  const response = (stream ? (last ?? { output: [] }) : await reply.json()) as Outcome["response"];
  const missing = REQUIRED.filter((name) => !(name in response)).map(
    (name) => `${name} is missing`,
  );
  const wrong = [
    ...schemaProblems(ResponseObject, response, "response"),
    ...events.flatMap((event) => schemaProblems(ResponseStreamEvent, event, event.type)),
    ...events.flatMap(({ sequence_number: number, type }, i) =>
      number === i ? [] : [`${type} has the number ${number} instead of ${i}`],
    ),
  ];
  const found = problems({ response, events }).filter((problem) => problem !== false);
  return [...missing, ...wrong, ...found];
}

/** The faults of a refusal. */
export async function refusalProblems(
  server: Server,
  { path, body, status }: { readonly path: string; readonly body: object; readonly status: number },
): Promise<string[]> {
  const reply = await post(server, path, body);
  if (reply.status !== status) return [`HTTP ${reply.status} instead of ${status}`];
  const { error } = (await reply.json()) as { error?: Record<string, unknown> };
  return ["type", "code", "message", "param"].flatMap((name) =>
    error && name in error ? [] : [`error.${name} is missing`],
  );
}

function post({ baseUrl, key, model }: Server, path: string, body: object): Promise<Response> {
  return fetch(baseUrl + path, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model, ...body }),
  });
}

async function readEvents(reply: Response): Promise<StreamedEvent[]> {
  const messages = reply
    .body!.pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream());
  const events: StreamedEvent[] = [];
  for await (const { event, data } of messages) {
    if (data === "[DONE]") break;
    const parsed = JSON.parse(data) as StreamedEvent;
    if (event !== parsed.type) throw new Error(`The event ${event} has the type ${parsed.type}`);
    events.push(parsed);
  }
  return events;
}

function schemaProblems(schema: v.GenericSchema, value: unknown, label: string): string[] {
  const { issues = [] } = v.safeParse(schema, value);
  return issues.map((issue) => `${label}: ${v.getDotPath(issue)}: ${issue.message}`);
}
