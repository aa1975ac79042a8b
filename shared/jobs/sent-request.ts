/**
 * The request that a job was submitted with, as it was sent. The first job of a request keeps it, unless the request sets
 * `store: false`. A prompt that the generation has unchanged is not stored twice.
 */
import * as v from "valibot";
import { fromJson } from "../redis/fields.ts";
import { jobKey } from "../redis/keys.ts";
import type { RedisClient } from "../redis/client.ts";
import type { Input, NewJob } from "./record.ts";

export interface SentRequest {
  /** The path that it was sent to. */
  readonly endpoint: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** The path of chats. */
export const CHAT_ENDPOINT = "/v1/chat/completions";

/** The member of a body that holds its prompt. */
const PROMPT_MEMBERS = ["messages", "prompt", "input"] as const;

const Stored = v.pipe(
  fromJson,
  v.object({
    endpoint: v.string(),
    body: v.record(v.string(), v.unknown()),
    /** The member whose value is the generation's input. */
    prompt: v.optional(v.picklist(PROMPT_MEMBERS)),
  }),
);

/** The jobs of a request, the first of them with what was sent. */
export function withSentRequest(
  [first, ...others]: readonly [NewJob, ...NewJob[]],
  request: SentRequest,
): readonly [NewJob, ...NewJob[]] {
  if (first.requestOptions.store === false) return [first, ...others];
  return [{ ...first, request }, ...others.map((job) => ({ ...job, firstJob: first.id }))];
}

/** Fields of a job's hash. */
export function requestFields({
  request,
  firstJob,
  generation,
}: Pick<NewJob, "request" | "firstJob" | "generation">): Record<string, string> {
  if (request === undefined) return firstJob === undefined ? {} : { firstJob };
  const { endpoint, body } = request;
  const prompt = PROMPT_MEMBERS.find((name) => isSame(body[name], promptOf(generation.input)));
  if (prompt === undefined) return { request: JSON.stringify(request) };
  const { [prompt]: _, ...rest } = body;
  return { request: JSON.stringify({ endpoint, body: rest, prompt }) };
}

/** The prompt of a body whose prompt is the whole input. */
function promptOf(input: Input): unknown {
  if (input.kind === "text") return input.text;
  return input.kind === "tokens" ? input.ids : input.messages;
}

/** Whether two values have the same JSON, whatever the order of members; it ends at the first difference. */
function isSame(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  return names.every((name) =>
    isSame((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name]),
  );
}

/**
 * The request of a job; null if it was not kept.
 * @param inputOf reads the input of a job: of this one, or of the first job of its request
 */
export async function readSentRequest(
  redis: RedisClient,
  jobId: string,
  inputOf: (jobId: string) => Promise<Input | null>,
): Promise<SentRequest | null> {
  const [request, firstJob] = await redis.hmget(jobKey(jobId), "request", "firstJob");
  if (firstJob) return readSentRequest(redis, firstJob, inputOf);
  if (!request) return null;
  const { endpoint, body, prompt } = v.parse(Stored, request);
  if (prompt === undefined) return { endpoint, body };
  const input = await inputOf(jobId);
  return input && { endpoint, body: { ...body, [prompt]: promptOf(input) } };
}
