/** Jobs of quantized models get the same tokens alone, drafted, in company, and taken over by another worker. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import type { Dtype } from "../../../../worker/engine/model/graph-files.ts";
import { compareWays, seededJobs } from "../../../reproducibility/jobs.ts";
import { VECTORS } from "../../../support/model-folder.ts";

const VOCAB = 128;

test("an ensemble of int8, q8 and q4", { timeout: 30_000 }, async () => {
  const load = (dtype: Dtype) =>
    loadDecoder(join(VECTORS, "llama/base"), { dtype, intraOpThreads: 1 });
  const models = {
    base: await load("int8"),
    expert: await load("q8"),
    antiexpert: await load("q4"),
    vocabSize: VOCAB,
  };
  const promptOf = (index: number) =>
    Array.from({ length: 90 }, (_, i) => 1 + ((index * 31 + i * i) % (VOCAB - 1)));
  const jobs = seededJobs(8, { seed: 16, maxTokens: 16, promptOf });
  const none = { drafted: [], "in company": [], "taken over": [] };
  expect(await compareWays(models, jobs, 5)).toEqual(none);
});
