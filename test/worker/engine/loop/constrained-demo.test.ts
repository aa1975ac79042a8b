/** Response formats with the demo models: every sampled output parses and validates. */
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { compileResponseFormat } from "../../../../shared/grammar/format.ts";
import { Output } from "../../../../worker/engine/decode/output.ts";
import { Sampler } from "../../../../worker/engine/decode/sampler.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { loadEnsembles } from "../../../../worker/engine/model/load-ensembles.ts";
import { readManifest } from "../../../../worker/engine/model/manifest.ts";
import type { Sequence } from "../../../../worker/engine/loop/sequence.ts";
import { CompiledGrammars } from "../../../../worker/engine/prepare/compiled-grammars.ts";
import { schemaFormat } from "../../../support/grammar.ts";
import { sampling } from "../../../support/sampling.ts";

const manifest = readManifest(join(import.meta.dirname, "../../../../infra/models/ensembles.json"));
const ensembles = await loadEnsembles(manifest, { intraOpThreads: 1 });
const ensemble = ensembles.get("atlas-qa")!;

const SCHEMAS = [
  {
    type: "object",
    properties: {
      capital: { type: "string", maxLength: 30 },
      population: { type: "integer", minimum: 1 },
      landlocked: { type: "boolean" },
      neighbours: { type: "array", items: { type: "string", maxLength: 12 }, maxItems: 3 },
    },
    required: ["capital", "population", "landlocked"],
    additionalProperties: false,
  },
  { type: "array", items: { enum: ["north", "south", 7, null] }, minItems: 2, maxItems: 5 },
  {
    type: "object",
    properties: { founded: { type: "string", format: "date" } },
    required: ["founded"],
    additionalProperties: false,
  },
];

test("each of many outputs in one batch validates", { timeout: 120_000 }, async () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  const batch = new Batch();
  const grammars = new CompiledGrammars();
  const texts = new Map<Sequence, { schema: object; text: string; finish: string | null }>();
  const prompts = ensemble.encodePrompts({ kind: "text", text: "the capital of france" });
  const { models, decode, eosIds, unusedIds } = ensemble;
  for (let seed = 0; seed < 24; seed++) {
    const schema = SCHEMAS[seed % SCHEMAS.length]!;
    const grammar = grammars.get(JSON.stringify(compileResponseFormat(schemaFormat(schema))));
    const constraint = ensemble.constrain(grammar, eosIds);
    const isComplete = () => constraint.isComplete;
    const sampler = new Sampler(
      sampling({ seed, temperature: 1 }),
      prompts.base,
      unusedIds,
      constraint,
    );
    const output = new Output({ decode, stop: [], eosIds, maxTokens: 150, isComplete });
    const sequence = batch.add({ models, prompts, alpha: 1, sampler, output, resume: [] })!;
    texts.set(sequence, { schema, text: "", finish: null });
  }
  while (batch.size > 0) {
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      const result = texts.get(step.sequence)!;
      result.text += step.text;
      result.finish = step.finish;
      expect(step.analysis?.masked).toBeGreaterThanOrEqual(0);
    }
  }
  for (const { schema, text, finish } of texts.values()) {
    expect(finish).toBe("stop");
    const errors = ajv.validate(schema, JSON.parse(text)) ? null : ajv.errorsText();
    expect({ text, errors }).toEqual({ text, errors: null });
  }
});
