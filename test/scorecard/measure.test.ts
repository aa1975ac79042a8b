/** A small scorecard of the demo models, from the questions to the page. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { loadEnsembles } from "../../worker/engine/model/load-ensembles.ts";
import { readManifest } from "../../worker/engine/model/manifest.ts";
import { answerAll } from "../eval/answer.ts";
import { measure, measureUnlabelled } from "./measure.ts";
import { createMetric } from "./metrics.ts";
import { scorecardPage, unlabelledPage } from "./page.ts";
import { parseQuestion, type Question } from "./questions.ts";
import { judgeUnlabelled } from "./verdict.ts";

const fileOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const questions: Question[] = readFileSync(fileOf("../eval/data/atlas-qa.dev.jsonl"), "utf8")
  .split("\n")
  .slice(0, 6)
  .map((line) => parseQuestion(line, "dev"));
const [entry] = readManifest(fileOf("../../infra/models/ensembles.json")).ensembles;
const loaded = await loadEnsembles(
  { ensembles: [entry!, { ...entry!, id: "expert alone", base: entry!.expert }] },
  { intraOpThreads: 1 },
);
const systems = {
  proxy: loaded.get("atlas-qa")!,
  expert: loaded.get("expert alone")!,
  tuned: null,
};
const options = {
  metric: createMetric("contains", {}),
  alphas: [0.5, 1],
  maxTokens: 8,
  batchSize: 4,
  log: () => {},
};

test("measures all systems on the same questions and writes a page that loads nothing", async () => {
  const sets = { dev: questions.slice(0, 2), test: questions.slice(2) };
  const control = { questions: questions.slice(0, 2), metric: options.metric };
  const scorecard = await measure(systems, sets, control, options);
  expect(scorecard.sweep.map(({ alpha }) => alpha)).toEqual([0.5, 1]);
  expect(scorecard.samples).toHaveLength(4);
  const shares = ["base", "expert", "proxy"] as const;
  for (const name of shares) {
    const right = scorecard.samples.filter((sample) => sample.right[name]).length;
    expect(scorecard.systems[name]?.value).toBe(25 * right);
  }
  expect(scorecard.steering.intervention).toBeGreaterThan(0);
  expect(scorecard.damage?.questions).toBe(2);
  expect(scorecard.speed.proxyTokensPerSecond).toBeGreaterThan(0);
  const html = scorecardPage(scorecard, { data: "<b>" });
  expect(html).toContain("&lt;b&gt;");
  expect(html).toContain(scorecard.verdict.headline);
  expect(html).not.toMatch(/https?:|src=|<script|NaN|undefined|Infinity/);
});

test("the page of a run without answers has the prediction", async () => {
  const report = await measureUnlabelled(systems, questions.slice(0, 3), options);
  expect(report).toMatchObject({ prompts: 3, alpha: 1 });
  const html = unlabelledPage(report, judgeUnlabelled(report), {});
  expect(html).toContain("predicted gain");
  expect(html).not.toMatch(/https?:|src=|<script|NaN|undefined|Infinity/);
});

test("an answer is the same alone, with drafts, as in a batch; at alpha 0 nothing is changed", async () => {
  const inputs = questions.slice(0, 4).map(({ input }) => input);
  const run = (alpha: number, batchSize: number) =>
    answerAll(systems.proxy, inputs, { alpha, maxTokens: 8, batchSize, trace: true });
  const texts = async (batchSize: number) =>
    (await run(1, batchSize)).map(({ text, tokens }) => ({ text, tokens }));
  expect(await texts(1)).toEqual(await texts(4));
  const base = await run(0, 4);
  expect(base.map(({ changed, kl }) => changed + kl)).toEqual([0, 0, 0, 0]);
  expect(Math.max(...base.map(({ logprob }) => logprob))).toBeLessThan(0);
});
