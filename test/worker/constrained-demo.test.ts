/** Response formats with the demo models: whatever is drawn, it parses and validates. */
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { grammarOf } from "../../shared/grammar/format.ts";
import { Output } from "../../worker/decode/output.ts";
import { Sampler } from "../../worker/decode/sampler.ts";
import { Batch } from "../../worker/generate.ts";
import { loadEnsembles } from "../../worker/model/ensemble.ts";
import { readManifest } from "../../worker/model/manifest.ts";
import type { Row } from "../../worker/row.ts";
import { schemaFormat } from "../support/grammar.ts";
import { sampling } from "../support/sampling.ts";

const manifest = readManifest(join(import.meta.dirname, "../../infra/models/ensembles.json"));
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
  },
];

test("each of many draws at once validates", { timeout: 120_000 }, async () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  const batch = new Batch();
  const texts = new Map<Row, { schema: object; text: string; finish: string | null }>();
  const prompts = ensemble.encode({ kind: "text", text: "the capital of france" });
  const { models, decode, eosIds, unusedIds } = ensemble;
  for (let seed = 0; seed < 24; seed++) {
    const schema = SCHEMAS[seed % SCHEMAS.length]!;
    const constraint = ensemble.constrain(grammarOf(schemaFormat(schema))!, eosIds);
    const isComplete = () => constraint.isComplete;
    const sampler = new Sampler(
      sampling({ seed, temperature: 1 }),
      prompts.base,
      unusedIds,
      constraint,
    );
    const output = new Output({ decode, stop: [], eosIds, maxTokens: 150, isComplete });
    const row = batch.add({ models, prompts, alpha: 1, sampler, output, resume: [] })!;
    texts.set(row, { schema, text: "", finish: null });
  }
  while (batch.size > 0) {
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      const told = texts.get(step.row)!;
      told.text += step.text;
      told.finish = step.finish;
      expect(step.report?.masked).toBeGreaterThanOrEqual(0);
    }
  }
  for (const { schema, text, finish } of texts.values()) {
    expect(finish).toBe("stop");
    const errors = ajv.validate(schema, JSON.parse(text)) ? null : ajv.errorsText();
    expect({ text, errors }).toEqual({ text, errors: null });
  }
});
