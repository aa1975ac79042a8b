/** A base that misbehaves while a sequence runs: its tokens are those of an undisturbed run, or it ends with an error. */
import { describe, expect, onTestFinished, test } from "vitest";
import type { Models } from "../../../../worker/engine/model/ensemble.ts";
import type { BaseApi } from "../../../../worker/engine/remote/api.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { sglang } from "../../../../worker/engine/remote/apis/sglang.ts";
import { vllm } from "../../../../worker/engine/remote/apis/vllm.ts";
import { Connection } from "../../../../worker/engine/remote/connection.ts";
import { RemoteBase } from "../../../../worker/engine/remote/remote-base.ts";
import { RemoteDecoder } from "../../../../worker/engine/remote/remote-decoder.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import type { ServedModel } from "../../../support/base-server/model.ts";
import {
  BaseServer,
  type BaseReply,
  type BaseRoutes,
  type Intercept,
} from "../../../support/base-server/server.ts";
import { sglangRoutes } from "../../../support/base-server/sglang.ts";
import { vllmRoutes } from "../../../support/base-server/vllm.ts";
import { NO_EOS, runTokens } from "../../../support/decode-loop.ts";
import { fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";

const VOCAB = 40;
const TOP = 12;
const OPTIONS = { maxTokens: 16, sampling: { seed: 5, logitBias: [NO_EOS] } };

type Api = readonly [routes: (model: ServedModel) => BaseRoutes, api: BaseApi];
const APIS: Readonly<Record<string, Api>> = {
  "llama.cpp": [llamaRoutes, llamaCpp()],
  vllm: [(model) => vllmRoutes(model, VOCAB), vllm("m", TOP)],
  sglang: [sglangRoutes, sglang()],
};

const served = (): ServedModel => {
  const { logitsOf } = fakeModels(VOCAB).base;
  return { logits: async (ids) => logitsOf(ids), vocabSize: VOCAB };
};
const expected = runTokens({ ...OPTIONS, models: fakeModels(VOCAB) });

interface Started {
  readonly server: BaseServer;
  readonly url: string;
  readonly base: RemoteBase;
  readonly models: Models;
}

/** A checked base behind a server. */
async function start(
  name = "llama.cpp",
  { timeoutMs = 60_000, patienceMs = 60_000 } = {},
): Promise<Started> {
  const [routes, api] = APIS[name]!;
  const server = new BaseServer(routes(served()));
  const url = await server.listen();
  const options = { url, name: "big", key: () => null, concurrency: 8 };
  const connection = new Connection({ ...options, timeoutMs, patienceMs });
  const base = new RemoteBase({
    api,
    connection,
    name: "big",
    vocabSize: VOCAB,
    top: TOP,
    rowsMax: 4,
  });
  onTestFinished(async () => {
    await base.close();
    await server.close();
  });
  await base.open({
    contextTokens: 100,
    bosId: null,
    encode: () => null,
    specialTexts: [],
    checkTokenizer: false,
  });
  return { server, url, base, models: { ...fakeModels(VOCAB), base: new RemoteDecoder(base) } };
}

/** Breaks the third of the next calls, and counts them. */
function third(fault: Intercept): { intercept: Intercept; calls: () => number } {
  let calls = 0;
  return {
    calls: () => calls,
    intercept: async (...of) => (++calls === 3 ? fault(...of) : null),
  };
}

/** Changes the text of a reply. */
const rewritten =
  (change: (text: string) => string): Intercept =>
  async (_, __, reply) => {
    const { body } = await reply();
    return { body: change(JSON.stringify(body)) };
  };

const busy = (retryAfter: string, status = 429): Intercept => {
  return async () => ({ status, headers: { "retry-after": retryAfter }, body: "{}" });
};

const FAULTS: readonly (readonly [string, Intercept])[] = [
  ["429 with Retry-After in seconds", busy("0")],
  ["503 with Retry-After as a date", busy(new Date().toUTCString(), 503)],
  [
    "a connection that is reset in the middle of a reply",
    async (_, response, reply) => {
      const text = JSON.stringify((await reply()).body);
      response.writeHead(200, { "content-length": String(text.length) });
      response.write(text.slice(0, text.length / 2), () => response.socket!.resetAndDestroy());
      return "answered";
    },
  ],
  ["JSON that is cut", rewritten((text) => text.slice(0, -20))],
  ["other JSON", async () => ({ body: { choices: [], meta_info: {} } })],
  ["a page of a proxy", async () => ({ status: 200, body: "<html>" })],
  ["a log-probability that is no number", rewritten((text) => text.replace(/-\d\.\d+/, "NaN"))],
  ["a log-probability that is null", rewritten((text) => text.replace(/-\d+\.\d+/, "null"))],
  [
    "a row of another context",
    async ({ path, body }) => {
      const shorter = JSON.parse(JSON.stringify(body), (key, value: unknown) =>
        key === "prompt" || key === "input_ids" ? withoutFirst(value) : value,
      ) as Record<string, unknown>;
      const routes = Object.values(APIS).map(([of]) => of(served()));
      for (const of of routes) {
        const answer: BaseReply | null = await of(path, shorter);
        if (answer) return answer;
      }
      return null;
    },
  ],
];

function withoutFirst(prompt: unknown): unknown {
  const list = prompt as unknown[];
  return Array.isArray(list[0]) ? list.map((ids) => (ids as unknown[]).slice(1)) : list.slice(1);
}

describe.each(Object.keys(APIS))("%s", (name) => {
  test.each(FAULTS)("%s: the call is repeated, and the tokens are the same", async (_, fault) => {
    const { server, models } = await start(name);
    const { intercept, calls } = third(fault);
    server.intercept = intercept;
    expect(await runTokens({ ...OPTIONS, models })).toEqual(await expected);
    expect(calls()).toBeGreaterThan(3);
  });

  test("too few rows", async () => {
    const { server, models } = await start(name);
    let changed = 0;
    server.intercept = async (_, __, reply) => {
      const answer = await reply();
      const shorter = withoutOneRow(answer.body);
      return shorter && ++changed === 1 ? { body: shorter } : answer;
    };
    expect(await runTokens({ ...OPTIONS, models })).toEqual(await expected);
  });
});

/** A reply without its last row; null if it has only one. */
function withoutOneRow(body: unknown): unknown {
  if (Array.isArray(body)) return body.length > 1 ? body.slice(0, -1) : null;
  const { choices, meta_info: info } = body as {
    choices?: unknown[];
    meta_info?: { input_top_logprobs: unknown[] };
  };
  if (choices && choices.length > 1) return { ...(body as object), choices: choices.slice(0, -1) };
  if (!info || info.input_top_logprobs.length < 2) return null;
  const input_top_logprobs = info.input_top_logprobs.slice(0, -1);
  return { ...(body as object), meta_info: { ...info, input_top_logprobs } };
}

test("SGLang: rows along other drafts than those that were asked for", async () => {
  const { server, models } = await start("sglang");
  let changed = 0;
  server.intercept = async (_, __, reply) => {
    const { body } = (await reply()) as {
      body: { meta_info: { input_token_logprobs: unknown[][] } };
    };
    const { input_token_logprobs: input } = body.meta_info;
    if (input.length > 1 && ++changed === 1) input[1]![1] = 39;
    return { body };
  };
  expect(await runTokens({ ...OPTIONS, models })).toEqual(await expected);
});

test("a call that does not answer in time", async () => {
  const { server, models } = await start("llama.cpp", { timeoutMs: 500 });
  const { intercept } = third(() => new Promise(() => {}));
  server.intercept = intercept;
  expect(await runTokens({ ...OPTIONS, models })).toEqual(await expected);
});

describe("a server that is replaced in the middle of a sequence", () => {
  const replace = async ({ server, url, models }: Started, salt: number | null) => {
    const tokens = runTokens({ ...OPTIONS, models });
    const isBroken = Promise.withResolvers<void>();
    server.intercept = third(async (_, response) => {
      response.socket!.resetAndDestroy();
      isBroken.resolve();
      return "answered";
    }).intercept;
    await isBroken.promise;
    await server.close();
    const other = salt === null ? served() : { ...served(), logits: otherLogits(salt) };
    const again = new BaseServer(llamaRoutes(other));
    onTestFinished(() => again.close());
    await again.listen(Number(new URL(url).port));
    return tokens;
  };
  const otherLogits = (salt: number) => async (ids: readonly number[]) =>
    noiseLogits(salt, VOCAB)(ids);

  test("by the same model", async () => {
    expect(await replace(await start(), null)).toEqual(await expected);
  });

  test("by another model of the same name: the sequence ends, and no token is drawn with it", async () => {
    const started = await start();
    await expect(replace(started, 77)).rejects.toMatchObject({
      code: "base_failed",
      message: "The base model big: another model answers under its name since it was away",
    });
    expect(started.base.problem).toContain("another model answers");
  });
});

test("a base that stays away: the error names it, and it is away for other jobs too", async () => {
  const started = await start("llama.cpp", { patienceMs: 300 });
  await started.server.close();
  await expect(runTokens({ ...OPTIONS, models: started.models })).rejects.toMatchObject({
    code: "base_unavailable",
    message: expect.stringMatching(/^The base model big: the connection failed/),
  });
  expect(started.base.problem).toContain("the connection failed");
});
