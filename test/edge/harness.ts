/** Helpers of the edge tests: they call the edge as a client does, and play the worker's part in a job. */
import Anthropic from "@anthropic-ai/sdk";
import { env, exports } from "cloudflare:workers";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import * as v from "valibot";
import OpenAI from "openai";
import type OpenAI6 from "openai-6";
import { onTestFinished, vi } from "vitest";
import { STREAM_START } from "../../edge/http/sse.ts";
import type { Job } from "../../shared/api/jobs.ts";
import type { Outcome, JobEvent } from "../../shared/api/job-events.ts";
import type { ErrorBody } from "../../shared/api/errors.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import { JobStore } from "../../shared/jobs/store.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { KeyPolicy, type KeyLimits, type Scope } from "../../shared/api/keys.ts";
import { DELIVERY_QUEUE, KEY_JOBS_PREFIX, MODELS_KEY, TAG } from "../../shared/redis/keys.ts";
import { Webhooks } from "../support/webhooks.ts";
import { checkEvent, checkReply } from "./reply-check.ts";
import { claimJob } from "../support/claim.ts";

export const { REDIS_URL: redisUrl } = env as unknown as { REDIS_URL: string };
export const redis = new Redis(redisUrl);
/** How long ended jobs are kept: longer than any test takes. */
const RETENTION_SECONDS = 3_600;
/** The job store through which the tests play a worker. */
export const store = new JobStore(redis, RETENTION_SECONDS * 1000);

export const webhooks = new Webhooks(
  redis,
  new Queue(DELIVERY_QUEUE, { connection: redis, prefix: TAG }),
);

export const card: ModelCard = {
  id: "demo",
  description: "A model for tests",
  createdAtMs: 1_700_000_000_000,
  contextTokens: 32,
  vocabSize: 1_000,
  tokenBytesMax: 50_000,
  alphaDefault: 0.5,
  alphaMax: 2,
  toolFormat: "hermes",
  base: "base",
  fingerprint: "weights",
  reproducible: true,
};

export const usage = {
  prompt_tokens: 3,
  completion_tokens: 2,
  total_tokens: 5,
  prompt_tokens_details: { cached_tokens: 0 },
  speculation: { drafted_tokens: 0, accepted_tokens: 0 },
  base_calls: 1,
};
export const success: Outcome = { finish_reason: "stop", usage, error: null };

export const keys = new KeyRegistry(redis);

/** A new tenant, or another API key of one, on an edge that serves the model `card`. */
export async function newTenant(
  { scopes, limits }: { scopes?: readonly Scope[]; limits?: KeyLimits } = {},
  ofTenant?: string,
): Promise<Client> {
  const policy = v.parse(KeyPolicy, { limits });
  const grant = { ...policy, scopes: scopes ?? policy.scopes };
  const { id, key, tenant } = await keys.create("test", ofTenant, grant);
  await redis.hset(MODELS_KEY, card.id, JSON.stringify(card));
  return new Client(key, tenant, id);
}

export class Client {
  readonly key: string;
  readonly tenant: string;
  readonly keyId: string;

  constructor(key: string, tenant: string, keyId: string) {
    this.key = key;
    this.tenant = tenant;
    this.keyId = keyId;
  }

  /** Another key of the tenant. */
  withKey(key: string, keyId: string): Client {
    return new Client(key, this.tenant, keyId);
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Response> {
    return send(path, { headers: { ...this.#headers(), ...headers } });
  }

  post(
    path: string,
    body?: BodyInit | object,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    return send(path, {
      method: "POST",
      ...(signal && { signal }),
      headers: { ...this.#headers(), "content-type": "application/json", ...headers },
      ...(body !== undefined && { body: isBody(body) ? body : JSON.stringify(body) }),
    });
  }

  patch(path: string, body: object): Promise<Response> {
    const headers = { ...this.#headers(), "content-type": "application/json" };
    return send(path, { method: "PATCH", headers, body: JSON.stringify(body) });
  }

  send(path: string, method: string): Promise<Response> {
    return send(path, { method, headers: this.#headers() });
  }

  /** Submits a valid job with the given fields. */
  async submit(fields: object = {}): Promise<Job> {
    const reply = await this.post("/v1/jobs", { model: card.id, prompt: "Hello", ...fields });
    if (reply.status !== 202) throw new Error(await reply.text());
    return reply.json();
  }

  async job(id: string): Promise<Job> {
    return (await this.get(`/v1/jobs/${id}`)).json();
  }

  /** Ids of this key's jobs that no worker has claimed. */
  async queuedJobs(): Promise<string[]> {
    const ids = await redis.smembers(KEY_JOBS_PREFIX + this.keyId);
    const records = await Promise.all(ids.map((id) => store.record(id)));
    return records.filter((record) => record?.state === "queued").map((record) => record!.id);
  }

  /** Id of the first of these jobs. Waits until there is one. */
  queuedJob(): Promise<string> {
    return vi.waitUntil(async () => (await this.queuedJobs())[0], 10_000);
  }

  /** Plays the worker for that job. @returns the job's id */
  async playNext(pieces: string[], outcome?: Outcome): Promise<string> {
    const id = await this.queuedJob();
    await play(id, pieces, outcome);
    return id;
  }

  #headers(): Record<string, string> {
    return { authorization: `Bearer ${this.key}` };
  }
}

export async function send(path: string, init?: RequestInit): Promise<Response> {
  const edge = (exports as unknown as { default: Fetcher }).default;
  const request = new Request(`http://edge.test${path}`, init);
  const { method, url } = request;
  return checkReply(method, url, await edge.fetch(request));
}

/** Calls the edge, as `fetch` calls a server. */
const fetchEdge: typeof fetch = (input, init) => {
  const { pathname, search } = new URL(new Request(input).url);
  return send(pathname + search, init);
};

/** Anthropic's official client with the tenant's key. */
export function anthropicOf({ key: apiKey }: Client): Anthropic {
  return new Anthropic({
    apiKey,
    baseURL: "http://edge.test",
    maxRetries: 0,
    fetch: fetchEdge,
  });
}

/** The official client with the tenant's key. The types of its two major versions differ only in parts that are not used. */
export function openaiOf({ key }: Client, major: typeof OpenAI | typeof OpenAI6 = OpenAI): OpenAI {
  return new (major as typeof OpenAI)({
    apiKey: key,
    baseURL: "http://edge.test/v1",
    fetch: fetchEdge,
  });
}

/** Until the test has ended, replies that are streams begin with their first token or their error, however slow the machine is. */
export function streamsAwaitTheirStart(): void {
  const { msMax } = STREAM_START;
  STREAM_START.msMax = 60_000;
  onTestFinished(() => void (STREAM_START.msMax = msMax));
}

export async function errorOf(reply: Response): Promise<ErrorBody["error"] & { status: number }> {
  const { error } = await reply.json<ErrorBody>();
  return { ...error, status: reply.status };
}

/** Plays a worker: claims the job, appends each piece of text, and ends the job. */
export async function play(jobId: string, pieces: string[], outcome = success): Promise<void> {
  const { attempt } = await claim(jobId);
  for (const piece of pieces) await appendText(jobId, attempt, piece);
  const state = outcome.error === null ? "succeeded" : "failed";
  await store.finish(jobId, attempt, state, pieces.join(""), outcome);
}

export const claim = (jobId: string) => claimJob(redis, jobId);

const tokenCounts = new Map<string, number>();

export function appendText(jobId: string, attempt: number, text: string) {
  const at = tokenCounts.get(jobId) ?? 0;
  tokenCounts.set(jobId, at + 1);
  return store.appendTokens(jobId, attempt, at, { ids: [text.length], text });
}

export interface SseEvent {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

/** The reply's events as they arrive. Leaving the loop closes the connection. */
export async function* sse(reply: Response): AsyncGenerator<SseEvent> {
  const events = reply.body!.pipeThrough(new TextDecoderStream()).pipeThrough(
    // The stream types of the two runtimes differ in parts that are not used.
    new EventSourceParserStream() as unknown as ReadableWritablePair<SseEvent, string>,
  );
  for await (const { id, event, data } of events) {
    checkEvent(reply, data);
    yield { id, event, data };
  }
}

export async function jobEvents(reply: Response): Promise<JobEvent[]> {
  return (await Array.fromAsync(sse(reply))).map(({ data }) => JSON.parse(data) as JobEvent);
}

function isBody(body: BodyInit | object): body is BodyInit {
  return typeof body === "string" || body instanceof Uint8Array || body instanceof ReadableStream;
}
