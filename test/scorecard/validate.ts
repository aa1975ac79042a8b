/**
 * `npm run scorecard:validate`: does the prediction without answers order pairs as their measured gains do? Twelve pairs of
 * different quality are made from the demo's weights: they are surrogates, not trained pairs.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadEnsembles, type Ensemble } from "../../worker/engine/model/ensemble.ts";
import { readManifest } from "../../worker/engine/model/manifest.ts";
import { answerAll, type Answer } from "../eval/answer.ts";
import { difference, predict, type Prediction } from "./comparison.ts";
import { createMetric } from "./metrics.ts";
import { mixWeights } from "./mix-weights.ts";
import { rankCorrelation } from "./rank-correlation.ts";
import { readQuestions, type Question } from "./questions.ts";

/** Prompts of the prediction, and questions of the gain: none is in both. */
const PROMPTS = 40;
const QUESTIONS = 60;
const MAX_TOKENS = 40;

const models = (name: string) =>
  fileURLToPath(new URL(`../../infra/models/${name}`, import.meta.url));
const graph = (name: string) => readFileSync(models(`${name}/onnx/model.onnx`));
const data = (name: string) => fileURLToPath(new URL(`../eval/data/${name}`, import.meta.url));

const antiexpert = graph("antiexpert");
const expert = graph("atlas-expert");
const other = graph("gsm-expert");
const step = (to: Uint8Array, by: number) => mixWeights(antiexpert, to, { step: by });
const noisy = (noise: number) => mixWeights(expert, expert, { step: 0, noise });
/** The experts of the pairs; the antiexpert is the demo's. */
const EXPERTS: readonly (readonly [name: string, graph: Uint8Array])[] = [
  ["a tenth of the tuning", step(expert, 0.1)],
  ["a quarter", step(expert, 0.25)],
  ["half", step(expert, 0.5)],
  ["three quarters", step(expert, 0.75)],
  ["the expert", expert],
  ["one and a half", step(expert, 1.5)],
  ["two and a half", step(expert, 2.5)],
  ["noise 0.1", noisy(0.1)],
  ["noise 0.2", noisy(0.2)],
  ["noise 0.4", noisy(0.4)],
  ["of another task", other],
  ["half of another task", mixWeights(expert, other, { step: 0.5 })],
];

const folder = mkdtempSync(join(tmpdir(), "trimtab-pairs-"));
try {
  await validate();
} finally {
  rmSync(folder, { recursive: true });
}

async function validate(): Promise<void> {
  const ensembles = await loadPairs();
  const prompts = readQuestions(data("atlas-qa.dev.jsonl")).slice(0, PROMPTS);
  const questions = readQuestions(data("atlas-qa.test.jsonl")).slice(0, QUESTIONS);
  const isRight = createMetric("exact", {});
  const graded = async (answers: readonly Answer[]) =>
    isRight(
      questions,
      answers.map(({ text }) => text),
    );
  const first = ensembles.get("0")!;
  const base = await answer(first, 0, prompts);
  const baseRight = await graded(await answer(first, 0, questions));
  const rows: { name: string; gain: number; prediction: Prediction }[] = [];
  for (const [i, [name]] of EXPERTS.entries()) {
    process.stderr.write(`${name}\n`);
    const [pair, alone] = [ensembles.get(`${i}`)!, ensembles.get(`${i} alone`)!];
    const prediction = predict({
      base,
      expert: await answer(alone, 0, prompts),
      proxy: await answer(pair, 1, prompts),
    });
    const right = await graded(await answer(pair, 1, questions));
    rows.push({ name, gain: difference(right, baseRight).value, prediction });
  }
  print(rows);
}

/** Each pair by its number, and its expert alone as the base of another ensemble. */
function loadPairs(): Promise<Map<string, Ensemble>> {
  const [entry] = readManifest(models("ensembles.json")).ensembles;
  const entries = EXPERTS.flatMap(([, bytes], i) => {
    const path = join(folder, String(i));
    mkdirSync(join(path, "onnx"), { recursive: true });
    cpSync(models("atlas-expert"), path, {
      recursive: true,
      filter: (file) => !file.endsWith(".onnx"),
    });
    writeFileSync(join(path, "onnx/model.onnx"), bytes);
    const made = { ...entry!.expert, path };
    return [
      { ...entry!, id: String(i), expert: made },
      { ...entry!, id: `${i} alone`, base: made, expert: made },
    ];
  });
  return loadEnsembles({ ensembles: entries }, { intraOpThreads: 0 });
}

function answer(ensemble: Ensemble, alpha: number, questions: readonly Question[]) {
  const inputs = questions.map(({ input }) => input);
  return answerAll(ensemble, inputs, { alpha, maxTokens: MAX_TOKENS, batchSize: 40, trace: true });
}

function print(rows: readonly { name: string; gain: number; prediction: Prediction }[]): void {
  console.log("expert                  gain  predicted  changed %    KL  as the expert %");
  for (const { name, gain, prediction } of rows) {
    const { predictedGain, steering, sameAsExpert } = prediction;
    const cells = [
      gain.toFixed(1).padStart(6),
      predictedGain.value.toFixed(1).padStart(9),
      steering.intervention.toFixed(1).padStart(9),
      steering.kl.toFixed(2).padStart(5),
      sameAsExpert.value.toFixed(1).padStart(15),
    ];
    console.log(`${name.padEnd(21)} ${cells.join("  ")}`);
  }
  const gains = rows.map(({ gain }) => gain);
  const signals: Record<string, (prediction: Prediction) => number> = {
    "predicted gain": ({ predictedGain }) => predictedGain.value,
    "changed tokens": ({ steering }) => steering.intervention,
    KL: ({ steering }) => steering.kl,
    "answers as the expert's": ({ sameAsExpert }) => sameAsExpert.value,
  };
  console.log(`\nrank correlation with the gain, ${rows.length} pairs:`);
  for (const [name, of] of Object.entries(signals)) {
    const values = rows.map(({ prediction }) => of(prediction));
    console.log(`  ${name}: ${rankCorrelation(values, gains).toFixed(2)}`);
  }
}
