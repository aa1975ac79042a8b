/**
 * `npm run scorecard:validate`: does the prediction without answers order pairs as their measured gains do? The pairs are trained
 * by infra/training/pairs.py.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import type { Ensemble } from "../../worker/engine/model/ensemble.ts";
import { loadEnsembles } from "../../worker/engine/model/load-ensembles.ts";
import { readManifest } from "../../worker/engine/model/manifest.ts";
import { answerAll, type Answer } from "../eval/answer.ts";
import { difference, predict, type Estimate, type Prediction } from "./comparison.ts";
import { createMetric } from "./metrics.ts";
import { rankCorrelation, rankCorrelationInterval } from "./rank-correlation.ts";
import { readQuestions, type Question } from "./questions.ts";

const MAX_TOKENS = 40;
const BATCH_SIZE = 40;

const MANIFEST = fileURLToPath(new URL("../../infra/models/ensembles.json", import.meta.url));
const data = (name: string) => fileURLToPath(new URL(`../eval/data/${name}`, import.meta.url));

const options = new Command("npm run scorecard:validate --")
  .description("compare the prediction without answers with the measured gain of trained pairs")
  .requiredOption("--pairs <folder>", "what infra/training/pairs.py wrote")
  .option("--prompts <number>", "prompts of the prediction", Number, 200)
  .option("--questions <number>", "questions of the gain; none is among the prompts", Number, 200)
  .option("--json <file>", "also write the results to this file")
  .parse()
  .opts<{ pairs: string; prompts: number; questions: number; json?: string }>();

/** An expert with the demo's antiexpert. */
interface Pair {
  readonly name: string;
  /** Folder of the expert, in that of the pairs. */
  readonly path: string;
}

interface Row {
  readonly name: string;
  /** Right answers that steering at alpha 1 adds to those of the base, in points. */
  readonly gain: Estimate;
  readonly prediction: Prediction;
}

const pairs = JSON.parse(readFileSync(join(options.pairs, "pairs.json"), "utf8")) as Pair[];
const prompts = readQuestions(data("atlas-qa.dev.jsonl")).slice(0, options.prompts);
const questions = readQuestions(data("atlas-qa.test.jsonl")).slice(0, options.questions);
const isRight = createMetric("exact", {});
const rows = await measureAll();
print();
if (options.json) writeFileSync(options.json, JSON.stringify(rows, null, 2));

async function measureAll(): Promise<Row[]> {
  const measured: Row[] = [];
  let base: { readonly answers: Answer[]; readonly right: boolean[] } | undefined;
  for (const pair of pairs) {
    process.stderr.write(`${pair.name}\n`);
    const { proxy, alone } = await load(pair);
    base ??= {
      answers: await answer(proxy, 0, prompts),
      right: await graded(await answer(proxy, 0, questions)),
    };
    const prediction = predict({
      base: base.answers,
      expert: await answer(alone, 0, prompts),
      proxy: await answer(proxy, 1, prompts),
    });
    const right = await graded(await answer(proxy, 1, questions));
    measured.push({ name: pair.name, gain: difference(right, base.right), prediction });
  }
  return measured;
}

/** The pair, and its expert as the base of another ensemble. */
async function load({ path }: Pair): Promise<{ proxy: Ensemble; alone: Ensemble }> {
  const [entry] = readManifest(MANIFEST).ensembles;
  const expert = { ...entry!.expert, path: resolve(options.pairs, path) };
  const ensembles = [
    { ...entry!, id: "proxy", expert },
    { ...entry!, id: "alone", base: expert, expert },
  ];
  const loaded = await loadEnsembles({ ensembles }, { intraOpThreads: 0 });
  return { proxy: loaded.get("proxy")!, alone: loaded.get("alone")! };
}

function answer(ensemble: Ensemble, alpha: number, asked: readonly Question[]) {
  const inputs = asked.map(({ input }) => input);
  const settings = { alpha, maxTokens: MAX_TOKENS, batchSize: BATCH_SIZE, trace: true };
  return answerAll(ensemble, inputs, settings);
}

function graded(answers: readonly Answer[]) {
  return isRight(
    questions,
    answers.map(({ text }) => text),
  );
}

function print(): void {
  console.log(`${prompts.length} prompts, ${questions.length} questions, alpha 1\n`);
  console.log(
    "expert                          gain  predicted  changed %    KL  as the expert %  its confidence",
  );
  for (const { name, gain, prediction } of rows) {
    const { predictedGain, steering, sameAsExpert, confidence } = prediction;
    const cells = [
      gain.value.toFixed(1).padStart(6),
      predictedGain.value.toFixed(1).padStart(9),
      steering.intervention.toFixed(1).padStart(9),
      steering.kl.toFixed(2).padStart(5),
      sameAsExpert.value.toFixed(1).padStart(15),
      confidence.expert.toFixed(1).padStart(14),
    ];
    console.log(`${name.padEnd(29)} ${cells.join("  ")}`);
  }
  const gains = rows.map(({ gain }) => gain.value);
  const signals: Record<string, (prediction: Prediction) => number> = {
    "predicted gain": ({ predictedGain }) => predictedGain.value,
    "changed tokens": ({ steering }) => steering.intervention,
    KL: ({ steering }) => steering.kl,
    "answers as the expert's": ({ sameAsExpert }) => sameAsExpert.value,
  };
  console.log(`\nrank correlation with the gain, ${rows.length} pairs, with its 95% interval:`);
  for (const [name, of] of Object.entries(signals)) {
    const values = rows.map(({ prediction }) => of(prediction));
    const [low, high] = rankCorrelationInterval(values, gains);
    const value = rankCorrelation(values, gains).toFixed(2);
    console.log(`  ${name}: ${value} (${low.toFixed(2)} to ${high.toFixed(2)})`);
  }
}
