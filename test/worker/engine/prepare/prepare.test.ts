/** From a generation to checked token ids. */
import { describe, expect, test } from "vitest";
import type { Generation } from "../../../../shared/jobs/record.ts";
import type {
  EnsembleTokenizers,
  Role,
} from "../../../../worker/engine/model/ensemble-tokenizers.ts";
import { toSent } from "../../../../worker/engine-client/messages.ts";
import { CompiledGrammars } from "../../../../worker/engine/prepare/compiled-grammars.ts";
import { prepare } from "../../../../worker/engine/prepare/prepare.ts";
import { PromptCache } from "../../../../worker/engine/prepare/prompt-cache.ts";
import { generation } from "../../../support/generation.ts";

const VOCAB = 20;
const PROMPTS = { base: [1], expert: [1, 2], antiexpert: [3] };

function ensemble(
  id: string,
  prompts: Readonly<Record<Role, number[]>> = PROMPTS,
  changes: Partial<EnsembleTokenizers> = {},
): EnsembleTokenizers {
  const encodePrompt = (role: Role) => prompts[role];
  return {
    id,
    contextTokens: 64,
    warnings: [],
    vocabSize: VOCAB,
    unusedIds: [],
    eosIds: new Set([0]),
    silentIds: new Set(),
    basePrompts: "ids",
    toolFormat: { format: "hermes", warnings: [] },
    tokenBytesMax: null,
    tokenizerKeys: { base: "a", expert: "b", antiexpert: "c" },
    encodePrompt,
    encodePrompts: () => prompts,
    readsClock: { base: false, expert: false, antiexpert: false },
    encodeCompletion: (text) => Array.from({ length: text.length }, () => 7),
    decode: () => "",
    tokenizerInfo: {},
    tokenText: () => ({ token: "" }),
    tokenBytes: () => null,
    ...changes,
  };
}

const sister = { base: [9], expert: [4, 5, 6, 7], antiexpert: [8] };
const ensembles = new Map(
  [ensemble("own"), ensemble("sister", sister, { contextTokens: 32 })].map((one) => [one.id, one]),
);

const prepared = (changes: Partial<Generation> = {}, resume: number[] = []) =>
  prepare(
    { ensembles, prompts: new PromptCache(2 ** 20), grammars: new CompiledGrammars() },
    {
      tenant: "acme",
      generation: toSent(generation({ model: "own", ...changes })),
      resume,
      submittedAtMs: 0,
    },
  );
const paired = (...models: string[]) => models.map((model) => ({ model, weight: 0.5 }));

test("a generation has the prompts of the three models, and its room in the context", () => {
  const { prompts, pairPrompts, maxTokens, cacheTokensMax } = prepared({ maxTokens: 100 });
  expect([...prompts.base, "-", ...prompts.expert, "-", ...prompts.antiexpert]).toEqual([
    1,
    "-",
    1,
    2,
    "-",
    3,
  ]);
  expect(pairPrompts).toEqual([]);
  expect([maxTokens, cacheTokensMax]).toEqual([62, 64]);
});

test("with pairs it has the prompts of their models, and the shortest context", () => {
  const { prompts, pairPrompts, maxTokens } = prepared({ pairs: paired("sister"), maxTokens: 100 });
  expect([...prompts.base]).toEqual([1]);
  expect(pairPrompts.map(({ expert }) => [...expert])).toEqual([[4, 5, 6, 7]]);
  expect(maxTokens).toBe(28);
});

test("prompts of models that do not run do not count", () => {
  expect(prepared().cacheTokensMax - prepared().maxTokens).toBe(2);
  const unsteered = prepared({ pairs: paired("sister"), alpha: 0 });
  expect(unsteered.cacheTokensMax - unsteered.maxTokens).toBe(1);
});

describe("a generation is refused", () => {
  const ids = (...ids: number[]) => ({ kind: "tokens", ids }) as const;
  test.each<[string, Partial<Generation>, number[], string, string]>([
    [
      "for an unknown pair",
      { pairs: paired("own", "missing") },
      [],
      "model_not_found",
      "This worker does not serve missing",
    ],
    [
      "for a prompt with an id outside the vocabulary",
      { input: ids(3, VOCAB) },
      [],
      "invalid_request",
      "prompt: token id 20 is not in the vocabulary of own, which has 20 tokens",
    ],
    [
      "for an id of the log outside the vocabulary",
      {},
      [-1],
      "invalid_request",
      "prompt: token id -1 is not in the vocabulary of own, which has 20 tokens",
    ],
    [
      "for a completion with an id outside the vocabulary",
      { completion: ids(77) },
      [],
      "invalid_request",
      "completion: token id 77 is not in the vocabulary of own, which has 20 tokens",
    ],
  ])("%s", (_, changes, resume, code, message) => {
    expect(() => prepared(changes, resume)).toThrow(expect.objectContaining({ code, message }));
  });
});

test("choices with the same prompt tokenize it once, another tenant's prompt again", () => {
  let count = 0;
  const counted = ensemble("counted", PROMPTS, {
    tokenizerKeys: { base: "a", expert: "a", antiexpert: "a" },
    encodePrompt: () => {
      count++;
      return [1];
    },
  });
  const preparing = {
    ensembles: new Map([["counted", counted]]),
    prompts: new PromptCache(2 ** 20),
    grammars: new CompiledGrammars(),
  };
  const run = (tenant: string, seed: number) =>
    prepare(preparing, {
      tenant,
      generation: toSent(generation({ model: "counted", seed })),
      resume: [],
      submittedAtMs: seed,
    });
  const [one, two] = [run("acme", 1), run("acme", 2)];
  expect(count).toBe(1);
  expect(two.prompts.expert).toBe(one.prompts.base);
  run("other", 1);
  expect(count).toBe(2);
});

test("a prompt that depends on the time has that of the job's submission", () => {
  const times: (number | undefined)[] = [];
  const dated = ensemble("dated", PROMPTS, {
    readsClock: { base: true, expert: true, antiexpert: true },
    encodePrompt: (role, _, { nowMs } = {}) => {
      if (role === "base") times.push(nowMs);
      return [1];
    },
  });
  const preparing = {
    ensembles: new Map([["dated", dated]]),
    prompts: new PromptCache(2 ** 20),
    grammars: new CompiledGrammars(),
  };
  const job = { tenant: "acme", generation: toSent(generation({ model: "dated" })), resume: [] };
  for (const submittedAtMs of [1, 1, 2]) prepare(preparing, { ...job, submittedAtMs });
  expect(times).toEqual([1, 2]);
});
