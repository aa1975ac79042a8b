/** The checks of a base before it is used, and after it was away. */
import { describe, expect, onTestFinished, test } from "vitest";
import type { BaseApi } from "../../../../worker/engine/remote/api.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { sglang } from "../../../../worker/engine/remote/apis/sglang.ts";
import { vllm } from "../../../../worker/engine/remote/apis/vllm.ts";
import { BaseRow } from "../../../../worker/engine/remote/base-row.ts";
import { Connection } from "../../../../worker/engine/remote/connection.ts";
import { serverTextOf } from "../../../../worker/engine/remote/server-text.ts";
import { RemoteBase } from "../../../../worker/engine/remote/remote-base.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import type { ServedModel } from "../../../support/base-server/model.ts";
import { BaseServer, type BaseRoutes } from "../../../support/base-server/server.ts";
import { sglangRoutes } from "../../../support/base-server/sglang.ts";
import { vllmRoutes } from "../../../support/base-server/vllm.ts";
import { noiseLogits } from "../../../support/fake-decoder.ts";

type Parts = Record<string, unknown>;

const VOCAB = 400;
const TOP = 20;
const tokenizer = {
  encodeCompletion: (text: string) => [...Buffer.from(text)].map((byte) => byte + 1),
};
const model = (changes: Partial<ServedModel> = {}, salt = 1): ServedModel => ({
  logits: async (ids) => noiseLogits(salt, VOCAB)(ids),
  vocabSize: VOCAB,
  tokenizer,
  ...changes,
});

async function serve(routes: BaseRoutes, api: BaseApi) {
  const server = new BaseServer(routes);
  const url = await server.listen();
  const options = { url, name: "big", key: () => null, concurrency: 8 };
  const connection = new Connection({ ...options, timeoutMs: 60_000, patienceMs: 60_000 });
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
  return { server, url, base };
}

const expected = {
  contextTokens: 100,
  bosId: null,
  encode: (text: string) => tokenizer.encodeCompletion(text),
  specialTexts: ["<eos>"],
  checkTokenizer: true,
};

const llama = (changes?: Partial<ServedModel>, salt?: number) =>
  serve(llamaRoutes(model(changes, salt)), llamaCpp());

describe("a base that fits", () => {
  test.each<[string, () => ReturnType<typeof serve>]>([
    ["llama.cpp", () => llama()],
    ["vllm", () => serve(vllmRoutes(model()), vllm("big", TOP))],
    ["sglang", () => serve(sglangRoutes(model({ isTempered: true })), sglang())],
  ])("%s", async (_, start) => {
    const { base } = await start();
    await base.open(expected);
    expect([base.problem, base.warnings]).toEqual([null, []]);
  });

  test("llama.cpp's slots are shared by the sequences, and few of them are told in a warning", async () => {
    const { base } = await llama({ slots: 64 });
    await base.open(expected);
    expect([1, 16, 32, 100].map((sequences) => base.rowsFor(sequences))).toEqual([4, 4, 2, 1]);
    expect(base.warnings).toEqual([]);
    const { base: small } = await llama({ slots: 2 });
    await small.open(expected);
    expect([1, 2, 8].map((sequences) => small.rowsFor(sequences))).toEqual([2, 1, 1]);
    expect(small.warnings).toEqual([expect.stringContaining("its server has 2 slots")]);
    const waits = [1, 2, 3].map((sequences) => small.canWaitFor(1, sequences));
    expect(waits).toEqual([true, true, false]);
    expect(small.canWaitFor(2, 1)).toBe(false);
  });

  test("a server without a tokenizer route is used with a warning", async () => {
    const { base } = await llama({ tokenizer: { encodeCompletion: () => [] } });
    await expect(base.open(expected)).rejects.toThrow("tokenizer");
    await (
      await llama({ tokenizer: { encodeCompletion: () => [] } })
    ).base.open({
      ...expected,
      checkTokenizer: false,
    });
  });
});

describe("a base that does not fit is refused with the reason and a remedy", () => {
  test("another tokenizer", async () => {
    const other = { encodeCompletion: (text: string) => [...Buffer.from(text)].map((b) => b + 2) };
    const { base } = await llama({ tokenizer: other });
    await expect(base.open(expected)).rejects.toThrow(
      /tokenizer makes \[118, 106, .* manifest \[117/,
    );
  });

  test("fewer log-probabilities than are wanted", async () => {
    const { base } = await serve(vllmRoutes(model(), 5), vllm("big", TOP));
    const error: unknown = await base.open(expected).catch((error: unknown) => error);
    expect(error).toMatchObject({ message: expect.stringMatching(/400.*--max-logprobs 20/) });
    expect(serverTextOf(error)).toContain("which is greater than max allowed: 5");
  });

  test("log-probabilities after a sampler that changes more than the temperature", async () => {
    const flat = model({ logits: async (ids) => noiseLogits(1, VOCAB)(ids).map((l) => l / 5) });
    const { base } = await serve((path, body) => {
      const { temperature = 1 } = (body["sampling_params"] ?? {}) as { temperature?: number };
      return sglangRoutes(temperature === 2 ? flat : model())(path, body);
    }, sglang());
    await expect(base.open(expected)).rejects.toThrow(/change with the temperature/);
  });

  test.each<[string, ServedModel["distort"], string]>([
    ["probabilities above 1", (told) => told.map((lp) => lp + 3), "no 20 log-probabilities"],
    ["NaN", (told) => told.fill(Number.NaN, 0, 3), "no 20 log-probabilities"],
    [
      "a list of other tokens than the most likely",
      (told) => told.map((lp) => lp - 3),
      "no 20 log-",
    ],
  ])("%s", async (_, distort, reason) => {
    const { base } = await llama({ distort: distort! });
    await expect(base.open(expected)).rejects.toThrow(reason);
  });

  test("rows of other requests that run at the same time", async () => {
    let calls = 0;
    // The first twelve run alone.
    const distort = (told: Float32Array) =>
      ++calls <= 12 ? told : told.map((_, id) => told[(id + 1) % VOCAB]!);
    const { base } = await llama({ distort });
    await expect(base.open(expected)).rejects.toThrow("at the same time get each other's");
  });
});

describe("replies that are no rows", () => {
  const query = { context: [1, 2, 3], drafts: [], top: TOP, salt: "" };
  const { signal } = new AbortController();

  test("a llama.cpp server whose token ends within a character gives none, so it draws a whole one", async () => {
    const routes = llamaRoutes(model({ isPartial: (id) => id !== 7 }));
    const plain = await serve(routes, llamaCpp());
    await expect(plain.base.rows(query, signal)).rejects.toMatchObject({ code: "base_failed" });
    const { base } = await serve(routes, llamaCpp(7));
    const usual = await llama();
    const [row, expectedRow] = await Promise.all(
      [base, usual.base].map(async (one) => (await one.rows(query, signal)).rows[0]!),
    );
    for (const [id, logprob] of expectedRow!.seen) expect(row!.seen.get(id)).toBe(logprob);
  });

  test.each([
    ["no value", undefined],
    ["null", null],
    ["a text", "-1"],
  ])("%s instead of a log-probability", (_, value) => {
    expect(() => new BaseRow(2, [[1, value as unknown as number]])).toThrow(
      "has the log-probability",
    );
  });

  test("an id whose value is larger than the list's last one", () => {
    const row = new BaseRow(VOCAB, [
      [1, Math.log(0.5)],
      [2, Math.log(0.01)],
    ]);
    expect(() => row.withAsked([[3, Math.log(0.4)]])).toThrow("is not in a list that ends at");
  });

  test("a server that ignores the ids which it is asked for is not asked for ever", async () => {
    const routes = vllmRoutes(model(), TOP);
    const { base, server } = await serve(
      (path, body) => {
        const { logprob_token_ids: _ids, ...rest } = body;
        return routes(path, rest);
      },
      vllm("big", TOP),
    );
    const row = (await base.rows(query, signal)).rows[0]!;
    const unseen = Array.from({ length: VOCAB }, (_, id) => id).filter((id) => !row.seen.has(id));
    const ids = { context: query.context, ids: unseen.slice(0, 2), salt: "" };
    await expect(base.ids(row, ids, signal)).rejects.toMatchObject({
      code: "base_failed",
      message: expect.stringMatching(/big: token \d+ was asked for by its id, and did not come/),
    });
    expect(server.calls).toHaveLength(4);
  });

  test("vLLM with log-probabilities after truncation", async () => {
    const distort = (told: Float32Array) => {
      const last = told.toSorted().at(-5)!;
      const kept = told.map((lp) => (lp >= last ? Math.exp(lp) : 0));
      const sum = kept.reduce((a, b) => a + b, 0);
      return kept.map((p) => (p === 0 ? -9999 : Math.log(p / sum)));
    };
    const { base } = await serve(vllmRoutes(model({ distort }), TOP), vllm("big", TOP));
    await expect(base.open(expected)).rejects.toThrow("--logprobs-mode raw_logprobs");
  });

  test("vLLM is told every option that it would take from the model's own", async () => {
    const { base, server } = await serve(vllmRoutes(model(), TOP), vllm("big", TOP));
    await base.rows(query, signal);
    expect(server.calls[0]!.body).toMatchObject({
      top_k: -1,
      min_p: 0,
      repetition_penalty: 1,
      presence_penalty: 0,
      frequency_penalty: 0,
    });
  });

  test.each([["12"], [Number.NaN], [-1], [null], [undefined], [10_000]])(
    "a prefix cache of %j tokens: the computed ones are not known",
    async (cached) => {
      const servers = [
        [vllmRoutes(model(), TOP), vllm("big", TOP), ["usage", "prompt_tokens_details"]],
        [sglangRoutes(model()), sglang(), ["meta_info"]],
      ] as const;
      for (const [routes, api, at] of servers) {
        const { path, body } = api.rows(query);
        const reply = (await routes(path, body as Record<string, unknown>))!.body as object;
        const told = at.reduce((part, name) => part[name] as Parts, reply as Parts);
        told["cached_tokens"] = cached;
        const { rows, computedTokens } = api.parseRows(reply, query, VOCAB);
        expect([rows.length, computedTokens]).toEqual([1, null]);
      }
    },
  );

  test("SGLang gets the tenant's salt for its prefix cache", async () => {
    const { base, server } = await serve(sglangRoutes(model()), sglang());
    await base.rows({ ...query, salt: "of a tenant" }, signal);
    expect(server.calls[0]!.body).toMatchObject({ extra_key: "of a tenant" });
  });
});

describe("a base that was away", () => {
  const query = { context: [1, 2, 3], drafts: [], top: TOP, salt: "" };
  const { signal } = new AbortController();

  test.each([
    ["comes back as the same", 1, null],
    ["comes back as another model of the same name", 2, "base_failed"],
  ])("%s", async (_, salt, code) => {
    const { server, url, base } = await llama();
    await base.open(expected);
    await server.close();
    const again = new BaseServer(llamaRoutes(model({}, salt)));
    onTestFinished(() => again.close());
    const results = [base.rows(query, signal), base.rows({ ...query, context: [4] }, signal)];
    await again.listen(Number(new URL(url).port));
    const ended = await Promise.allSettled(results);
    const codes = ended.map((one) =>
      one.status === "rejected" ? (one.reason as { code: string }).code : null,
    );
    expect(codes).toEqual([code, code]);
    // It stays refused as long as it is another one.
    const later = await base.rows(query, signal).catch((error: { code: string }) => error.code);
    expect(later === "base_failed").toBe(code !== null);
  });
});
