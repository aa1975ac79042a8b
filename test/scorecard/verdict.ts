/** Whether a pair is worth serving, in words. It depends only on measured numbers. */
import type { Damage, Difference, Estimate, Prediction, Steering } from "./comparison.ts";

export interface Verdict {
  readonly decision: "serve" | "do not" | "too small to tell";
  readonly headline: string;
  /** Each begins with its subject; the decisive ones are first. */
  readonly reasons: readonly string[];
}

export interface Evidence {
  readonly questions: number;
  readonly expert: Estimate;
  readonly proxyMinusBase: Difference;
  readonly proxyMinusExpert: Difference;
  /** The alpha that was best on the dev split, and that of the manifest. */
  readonly alpha: { readonly best: number; readonly configured: number };
  /** Best alpha minus that of the manifest; null if they are the same. */
  readonly bestMinusConfigured: Difference | null;
  readonly steering: Steering;
  readonly damage: Damage | null;
  readonly proxyMinusTuned: Difference | null;
}

/** Pairs that change more of the base's tokens than this, in percent, tend to fail (arXiv 2606.11201). */
const INTERVENTION_MAX = 20;
/** A pair that changes fewer tokens, in percent, does nothing. */
const INTERVENTION_MIN = 0.5;
/** With fewer questions any result may be chance. */
const QUESTIONS_MIN = 30;
/** A gain below this, in points, is not worth three models instead of one. */
const GAIN_MIN = 2;
/** Of what the base could do, in percent: if more is lost, the pair is only for questions of its kind. */
const BROKEN_MAX = 20;

interface Reason {
  readonly weight: "do not" | "too small to tell" | "note";
  readonly text: string;
}

export function judge(evidence: Evidence): Verdict {
  if (evidence.questions < QUESTIONS_MIN) {
    const headline = `Too small to tell: ${evidence.questions} questions, and ${QUESTIONS_MIN} are the least.`;
    return verdict("too small to tell", headline, []);
  }
  const reasons = [
    ...effectReasons(evidence),
    ...expertReasons(evidence),
    ...interventionReasons(evidence),
    ...alphaReasons(evidence),
    ...damageReasons(evidence),
    ...tunedReasons(evidence),
  ];
  const ofWeight = (weight: Reason["weight"]) =>
    reasons.filter((reason) => reason.weight === weight).map(({ text }) => text);
  const against = ofWeight("do not");
  const unclear = ofWeight("too small to tell");
  const notes = ofWeight("note");
  if (against.length > 0) {
    return verdict("do not", "Do not serve this pair.", [...against, ...unclear, ...notes]);
  }
  if (unclear.length > 0) {
    const headline = `Too small to tell: ${evidence.questions} questions do not decide it.`;
    return verdict("too small to tell", headline, [...unclear, ...notes]);
  }
  const { alpha, damage, proxyMinusBase, proxyMinusExpert } = evidence;
  const gain = `It gains ${points(proxyMinusBase)} over the base and ${points(proxyMinusExpert)} over the expert alone`;
  const isNarrow = damage?.broken && damage.broken.interval[0] > BROKEN_MAX;
  const headline = `Serve it with alpha ${alpha.best}${isNarrow ? ", for such questions only" : ""}.`;
  return verdict("serve", headline, [gain, ...notes]);
}

/** Without labels: whether a labelled test is worth its while. */
export function judgeUnlabelled({ prompts, steering, predictedGain }: Prediction): Verdict {
  const { intervention } = steering;
  const changes = `steering changes ${percent(intervention)} of the tokens`;
  if (intervention < INTERVENTION_MIN) {
    return verdict("do not", "Do not serve this pair.", [`The pair does nothing: ${changes}`]);
  }
  const gain = `The predicted gain is ${points(predictedGain)}: an estimate from the models' confidence, not a measurement`;
  const [low, high] = predictedGain.interval;
  const warning = intervention > INTERVENTION_MAX ? [tooMuch(intervention)] : [];
  if (high < 0) {
    return verdict("do not", "Do not serve this pair before a test with answers.", [
      gain,
      ...warning,
    ]);
  }
  if (low <= 0) {
    const headline = `Too small to tell: ${prompts} prompts do not decide it.`;
    return verdict("too small to tell", headline, [gain, ...warning]);
  }
  const amount = warning.length > 0 ? warning : [capital(changes)];
  return verdict("serve", "Worth a test with answers.", [gain, ...amount]);
}

const verdict = (
  decision: Verdict["decision"],
  headline: string,
  reasons: readonly string[],
): Verdict => ({ decision, headline, reasons });

function effectReasons({ steering, proxyMinusBase, questions }: Evidence): Reason[] {
  if (steering.intervention < INTERVENTION_MIN) {
    const text = `The pair does nothing: steering changes ${percent(steering.intervention)} of the base's tokens. Expert and antiexpert may be the same model`;
    return [{ weight: "do not", text }];
  }
  const [low, high] = proxyMinusBase.interval;
  const text = `Steering gains ${points(proxyMinusBase)} over the base alone`;
  if (high < GAIN_MIN) return [{ weight: "do not", text }];
  return low > 0 ? [] : [unclear(text, proxyMinusBase, questions)];
}

function expertReasons({
  proxyMinusExpert,
  expert,
  questions,
  proxyMinusBase,
}: Evidence): Reason[] {
  const [low, high] = proxyMinusExpert.interval;
  if (low > 0) return [];
  const text = `The steered base gains ${points(proxyMinusExpert)} over the expert alone, which answers ${percent(expert.value)} right`;
  if (high < GAIN_MIN) {
    return [{ weight: "do not", text: `The expert alone is as good, and cheaper. ${text}` }];
  }
  // Where steering does not help the base, there is nothing to choose.
  return proxyMinusBase.interval[0] > 0 ? [unclear(text, proxyMinusExpert, questions)] : [];
}

function interventionReasons({ steering, proxyMinusBase }: Evidence): Reason[] {
  if (steering.intervention <= INTERVENTION_MAX) return [];
  const text = tooMuch(steering.intervention);
  if (proxyMinusBase.interval[0] > 0) return [{ weight: "note", text: `${text}. Here they gain` }];
  return [{ weight: "do not", text: `Base and pair disagree. ${text}` }];
}

function alphaReasons({ alpha, bestMinusConfigured }: Evidence): Reason[] {
  if (bestMinusConfigured === null) return [];
  const change =
    alpha.best < alpha.configured ? "A lower alpha is better" : "A higher alpha is better";
  const text = `${change}: ${alpha.best} gains ${points(bestMinusConfigured)} over the manifest's ${alpha.configured}`;
  const [low, high] = bestMinusConfigured.interval;
  if (low > 0)
    return [{ weight: "note", text: `${text}. Do not serve it with ${alpha.configured}` }];
  if (high < 0 || bestMinusConfigured.value <= 0) return [];
  const small = `On the dev split alpha ${alpha.best} was best; that it gains ${points(bestMinusConfigured)} over the manifest's ${alpha.configured} may be chance`;
  return [{ weight: "note", text: small }];
}

function damageReasons({ damage }: Evidence): Reason[] {
  if (damage === null) {
    return [
      {
        weight: "note",
        text: "Damage was not measured: pass questions that the pair is not for with --control",
      },
    ];
  }
  const { broken, same } = damage;
  if (broken === null) {
    const text = `Steering leaves ${percent(same.value)} of the control answers as they are; whether the others got worse is not known`;
    return [{ weight: "note", text }];
  }
  const text = `Steering breaks ${percent(broken.value)} (${interval(broken)}) of the control questions that the base answers right`;
  return [{ weight: "note", text }];
}

function tunedReasons({ proxyMinusTuned }: Evidence): Reason[] {
  if (proxyMinusTuned === null) return [];
  const text = `Against the base tuned itself it is ${points(proxyMinusTuned)}`;
  return [{ weight: "note", text }];
}

function unclear(text: string, { questionsNeeded }: Difference, questions: number): Reason {
  const needed =
    Number.isFinite(questionsNeeded) && questionsNeeded > questions
      ? `. About ${questionsNeeded} questions would decide a difference of this size`
      : ". The difference may be chance";
  return { weight: "too small to tell", text: `${text}${needed}` };
}

const tooMuch = (intervention: number) =>
  `Steering changes ${percent(intervention)} of the base's tokens: pairs above ${INTERVENTION_MAX}% tend to fail`;
const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
const percent = (value: number) => `${value.toFixed(1)}%`;
const signed = (value: number) => `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(1)}`;
const interval = (of: Estimate) => of.interval.map((bound) => bound.toFixed(1)).join(" to ");
const points = (of: Estimate) =>
  `${signed(of.value)} points (${of.interval.map(signed).join(" to ")})`;
