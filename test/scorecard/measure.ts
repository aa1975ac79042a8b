/** Measures an ensemble on questions: alphas on the dev split, then all systems on the test split. */
import type { Ensemble } from "../../worker/engine/model/ensemble.ts";
import { answerAll, type Answer } from "../eval/answer.ts";
import { percentTrue } from "../eval/statistics.ts";
import {
  damageOf,
  difference,
  gapClosed,
  predict,
  share,
  steeringOf,
  type Damage,
  type Difference,
  type Estimate,
  type Prediction,
  type Steering,
} from "./comparison.ts";
import type { Metric } from "./metrics.ts";
import type { Question } from "./questions.ts";
import { judge, type Verdict } from "./verdict.ts";

/** The proxy-tuned ensemble, and single models as bases of ensembles that run at alpha 0. */
export interface Systems {
  readonly proxy: Ensemble;
  readonly expert: Ensemble;
  readonly tuned: Ensemble | null;
}

export interface MeasureOptions {
  readonly metric: Metric;
  /** Tried on the dev split; at least one. */
  readonly alphas: readonly number[];
  readonly maxTokens: number;
  readonly batchSize: number;
  readonly log: (text: string) => void;
}

export interface SweepPoint extends Estimate, Steering {
  readonly alpha: number;
}

/** One question with the answers of all systems. */
export interface Sample {
  readonly prompt: string;
  readonly answers: readonly string[];
  readonly texts: Readonly<Partial<Record<SystemName, string>>>;
  readonly right: Readonly<Partial<Record<SystemName, boolean>>>;
}

export type SystemName = "base" | "expert" | "proxy" | "tuned";

/** Answers one after the other, as one request gets them from an idle worker. */
export interface Speed {
  readonly baseTokensPerSecond: number;
  readonly proxyTokensPerSecond: number;
  /** Accepted ones of the drafted tokens, in percent; null if none was drafted. */
  readonly acceptance: number | null;
}

export interface Scorecard {
  readonly ensemble: string;
  readonly questions: { readonly dev: number; readonly test: number };
  readonly alpha: { readonly best: number; readonly configured: number };
  readonly sweep: readonly SweepPoint[];
  readonly systems: Readonly<Partial<Record<SystemName, Estimate & { readonly ends: number }>>>;
  readonly proxyMinusBase: Difference;
  readonly proxyMinusExpert: Difference;
  readonly bestMinusConfigured: Difference | null;
  readonly proxyMinusTuned: Difference | null;
  readonly gapClosed: Estimate | null;
  readonly steering: Steering;
  readonly damage: Damage | null;
  readonly speed: Speed;
  readonly verdict: Verdict;
  readonly samples: readonly Sample[];
}

/** Questions that the speed is measured with. */
const SPEED_QUESTIONS = 8;

export async function measure(
  systems: Systems,
  { dev, test }: { readonly dev: readonly Question[]; readonly test: readonly Question[] },
  control: { readonly questions: readonly Question[]; readonly metric: Metric } | null,
  options: MeasureOptions,
): Promise<Scorecard> {
  const { proxy, expert, tuned } = systems;
  const run = (name: string, ensemble: Ensemble, alpha: number, questions: readonly Question[]) =>
    answerQuestions({ name, ensemble, alpha }, questions, options);
  const grade = (questions: readonly Question[], answers: readonly Answer[]) =>
    options.metric(
      questions,
      answers.map(({ text }) => text),
    );
  const configured = proxy.card.alphaDefault;
  const sweep: SweepPoint[] = [];
  for (const alpha of options.alphas) {
    const answers = await run("dev split", proxy, alpha, dev);
    sweep.push({ alpha, ...share(await grade(dev, answers)), ...steeringOf(answers) });
  }
  const best = bestAlpha(sweep);
  const answers: Partial<Record<SystemName, readonly Answer[]>> = {
    base: await run("base", proxy, 0, test),
    expert: await run("expert", expert, 0, test),
    proxy: await run("proxy", proxy, best, test),
    ...(tuned && { tuned: await run("tuned", tuned, 0, test) }),
  };
  const names = Object.keys(answers) as SystemName[];
  const right: Partial<Record<SystemName, boolean[]>> = {};
  for (const name of names) right[name] = await grade(test, answers[name]!);
  const atConfigured =
    best === configured ? null : await grade(test, await run("proxy", proxy, configured, test));
  const damage = control && (await measureDamage(proxy, best, control, options));
  const facts = {
    proxyMinusBase: difference(right.proxy!, right.base!),
    proxyMinusExpert: difference(right.proxy!, right.expert!),
    bestMinusConfigured: atConfigured && difference(right.proxy!, atConfigured),
    proxyMinusTuned: right.tuned ? difference(right.proxy!, right.tuned) : null,
    steering: steeringOf(answers.proxy!),
    alpha: { best, configured },
    damage,
  };
  const systemOf = (name: SystemName) => ({
    ...share(right[name]!),
    ends: percentTrue(answers[name]!.map(({ stopped }) => stopped)),
  });
  return {
    ensemble: proxy.id,
    questions: { dev: dev.length, test: test.length },
    sweep,
    systems: Object.fromEntries(names.map((name) => [name, systemOf(name)])),
    ...facts,
    gapClosed: right.tuned ? gapClosed(right.base!, right.proxy!, right.tuned) : null,
    speed: await measureSpeed(proxy, best, test, options),
    verdict: judge({ ...facts, questions: test.length, expert: systemOf("expert") }),
    samples: test.map(({ shown, answers: expected }, i) => ({
      prompt: shown,
      answers: expected,
      texts: Object.fromEntries(names.map((name) => [name, answers[name]![i]!.text])),
      right: Object.fromEntries(names.map((name) => [name, right[name]![i]!])),
    })),
  };
}

export interface UnlabelledReport extends Prediction {
  readonly ensemble: string;
  readonly alpha: number;
  readonly samples: readonly Pick<Sample, "prompt" | "texts">[];
}

/** Measures a pair without right answers, at the manifest's alpha. */
export async function measureUnlabelled(
  { proxy, expert }: Systems,
  questions: readonly Question[],
  options: Omit<MeasureOptions, "metric" | "alphas">,
): Promise<UnlabelledReport> {
  const alpha = proxy.card.alphaDefault;
  const run = (name: string, ensemble: Ensemble, at: number) =>
    answerQuestions({ name, ensemble, alpha: at }, questions, options);
  const answers = {
    base: await run("base", proxy, 0),
    expert: await run("expert", expert, 0),
    proxy: await run("proxy", proxy, alpha),
  };
  const textsAt = (i: number) => ({
    base: answers.base[i]!.text,
    expert: answers.expert[i]!.text,
    proxy: answers.proxy[i]!.text,
  });
  return {
    ensemble: proxy.id,
    alpha,
    ...predict(answers),
    samples: questions.map(({ shown }, i) => ({ prompt: shown, texts: textsAt(i) })),
  };
}

async function measureDamage(
  proxy: Ensemble,
  alpha: number,
  { questions, metric }: { readonly questions: readonly Question[]; readonly metric: Metric },
  options: MeasureOptions,
): Promise<Damage> {
  const run = async (at: number) => {
    const answers = await answerQuestions(
      { name: "control", ensemble: proxy, alpha: at },
      questions,
      options,
    );
    return answers.map(({ text }) => text);
  };
  const texts = { base: await run(0), proxy: await run(alpha) };
  if (questions.some(({ answers }) => answers.length === 0)) return damageOf(null, texts);
  const right = {
    base: await metric(questions, texts.base),
    proxy: await metric(questions, texts.proxy),
  };
  return damageOf(right, texts);
}

async function measureSpeed(
  proxy: Ensemble,
  alpha: number,
  questions: readonly Question[],
  { maxTokens, log }: Pick<MeasureOptions, "maxTokens" | "log">,
): Promise<Speed> {
  const inputs = questions.slice(0, SPEED_QUESTIONS).map(({ input }) => input);
  log(`speed: ${inputs.length} questions, one at a time`);
  const run = async (at: number) => {
    const startedMs = performance.now();
    const answers = await answerAll(proxy, inputs, { alpha: at, maxTokens, batchSize: 1 });
    const seconds = (performance.now() - startedMs) / 1000;
    const sum = (of: (answer: Answer) => number) => answers.reduce((total, a) => total + of(a), 0);
    return {
      tokensPerSecond: sum(({ tokens }) => tokens) / seconds,
      drafted: sum(({ drafted }) => drafted),
      accepted: sum(({ accepted }) => accepted),
    };
  };
  const base = await run(0);
  const steered = await run(alpha);
  return {
    baseTokensPerSecond: base.tokensPerSecond,
    proxyTokensPerSecond: steered.tokensPerSecond,
    acceptance: steered.drafted === 0 ? null : (100 * steered.accepted) / steered.drafted,
  };
}

function answerQuestions(
  { name, ensemble, alpha }: { name: string; ensemble: Ensemble; alpha: number },
  questions: readonly Question[],
  { maxTokens, batchSize, log }: Pick<MeasureOptions, "maxTokens" | "batchSize" | "log">,
): Promise<Answer[]> {
  log(`${name}${alpha === 0 ? "" : ` at alpha ${alpha}`}: ${questions.length} questions`);
  const inputs = questions.map(({ input }) => input);
  return answerAll(ensemble, inputs, { alpha, maxTokens, batchSize, trace: true });
}

/** The alpha with the most right answers; of equal ones the lowest, because it changes least. */
function bestAlpha(sweep: readonly SweepPoint[]): number {
  return sweep.reduce((best, point) => (point.value > best.value ? point : best)).alpha;
}
