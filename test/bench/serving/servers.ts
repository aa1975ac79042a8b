/** The compared servers, each with one model in one weight format. All run at the same time and are measured in turns; none uses a processor while idle. */
import { startEdge } from "../../../infra/stack/edge.ts";
import type { Child } from "../../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../../infra/stack/redis.ts";
import { startWorker } from "../../../infra/stack/worker.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { readEventStream } from "../../load/event-stream.ts";
import { startLlamaServer } from "../../remote/llama-server.ts";
import { ALPHA } from "../engines/engine.ts";
import { ggufFile, writeManifest, type FamilyName } from "../models/family.ts";
import type { Question } from "./questions.ts";

export type Form = "fp32" | "int8";
/** For both servers: no request waits for a slot. */
export const SLOTS = 32;
const CONTEXT_TOKENS = 256;
const KV_CACHE_MIB = 2_048;
/** The first start prepares the graphs. */
const READY_MS = 300_000;

export const STEERED = "trimtab, steered";
export const OWN_BASE = "trimtab, base alone";
const LLAMA = "llama.cpp, base alone";

export interface Server {
  readonly name: string;
  /** @returns the number of tokens; a signal that aborts cancels the generation */
  stream(question: Question, onText: () => void, signal: AbortSignal): Promise<number>;
}

export interface Servers {
  readonly servers: readonly Server[];
  /** Their processes, by name. */
  readonly parts: Readonly<Record<string, Child>>;
  readonly stop: () => Promise<void>;
}

/**
 * Starts the edge with its Redis and one worker, and a llama.cpp server for each number of threads.
 * @param workerEnv further environment variables of the worker
 */
export async function startServers(
  family: FamilyName,
  form: Form,
  llamaThreads: readonly number[],
  workerEnv: Readonly<Record<string, string>> = {},
): Promise<Servers> {
  const { child: redis, url: redisUrl } = await startRedis({ aof: true });
  const edge = await startEdge({ redisUrl });
  const worker = await startWorker({
    redisUrl,
    readyMs: READY_MS,
    env: {
      TRIMTAB_MODELS: writeManifest(family, form),
      SLOTS: String(SLOTS),
      KV_CACHE_MIB: String(KV_CACHE_MIB),
      // The same question is asked of the base alone and steered.
      PREFIX_CACHE_MIB: "0",
      LOG_LEVEL: "warn",
      ...workerEnv,
    },
  });
  const client = await connectRedis(redisUrl);
  const { key } = await new KeyRegistry(client).create("bench");
  client.disconnect();
  const servers: Server[] = [
    trimtab(STEERED, { url: edge.url, key, alpha: ALPHA }),
    trimtab(OWN_BASE, { url: edge.url, key, alpha: 0 }),
  ];
  const parts: Record<string, Child> = { redis, edge: edge.child, worker: worker.child };
  for (const threads of llamaThreads) {
    const name = `${LLAMA}, ${threads} thread${threads === 1 ? "" : "s"}`;
    const { child, url } = await startLlamaServer({
      model: ggufFile(family, form),
      slots: SLOTS,
      contextTokens: CONTEXT_TOKENS,
      threads,
      cache: "float16",
    });
    servers.push(llama(name, url));
    parts[name] = child;
  }
  const stop = async () => {
    for (const child of Object.values(parts).toReversed()) await child.stop();
  };
  return { servers, parts, stop };
}

export const isLlama = (name: string) => name.startsWith(LLAMA);

function trimtab(
  name: string,
  { url, key, alpha }: { url: string; key: string; alpha: number },
): Server {
  return {
    name,
    async stream({ ids, replyTokens, isEndless = false }, onText, signal) {
      const body = JSON.stringify({
        model: "bench",
        prompt: ids,
        max_tokens: replyTokens,
        temperature: 0,
        stream: true,
        stream_options: { include_usage: true },
        steering: { alpha },
        // The steered reply ends there by itself; the base alone would go on or end earlier.
        ...((alpha === 0 || isEndless) && { logit_bias: { "0": -100 } }),
      });
      let tokens = 0;
      const headers = { authorization: `Bearer ${key}`, "cancel-on-disconnect": "true" };
      const request = { url: `${url}/v1/completions`, headers, body, signal };
      await readEventStream(request, ({ data }) => {
        if (!data.startsWith("{")) return;
        const { choices, usage, error } = JSON.parse(data) as CompletionChunk;
        if (error) throw new Error(error.message);
        if (choices?.[0]?.text) onText();
        if (usage) tokens = usage.completion_tokens;
      });
      return tokens;
    },
  };
}

function llama(name: string, url: string): Server {
  return {
    name,
    async stream({ ids, replyTokens }, onText, signal) {
      const body = JSON.stringify({
        prompt: ids,
        n_predict: replyTokens,
        temperature: 0,
        ignore_eos: true,
        cache_prompt: false,
        stream: true,
      });
      let tokens = 0;
      await readEventStream({ url: `${url}/completion`, body, signal }, ({ data }) => {
        if (!data.startsWith("{")) return;
        const chunk = JSON.parse(data) as LlamaChunk;
        if (chunk.content) onText();
        if (chunk.stop) tokens = chunk.tokens_predicted;
      });
      return tokens;
    },
  };
}

interface CompletionChunk {
  readonly choices?: readonly { readonly text: string }[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly error?: { readonly message: string };
}

interface LlamaChunk {
  readonly content: string;
  readonly stop: boolean;
  readonly tokens_predicted: number;
}
