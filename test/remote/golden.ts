/**
 * `npm run golden:remote`: the demo base behind servers, against the same ensemble run locally. Seeded jobs with every option
 * must give the same tokens through each adapter, however short the list of known tokens is. A token that is not proven may be
 * another one; its distribution must be as near to the exact one as its bound says. The hosted API takes text, of which it makes
 * its own tokens, so its jobs are compared with those that get its whole distribution.
 *
 * Jobs through a real llama.cpp server follow, with 64 known tokens and drafts. Its arithmetic rounds otherwise than that of the
 * local run, so a job may differ at a tie, in one of 2,000 tokens.
 *
 *     npm run golden:remote -- --jobs 1000 --llama-jobs 100 --json FILE
 *     npm run golden:remote -- --jobs 160 --from 30        only ten jobs of each adapter and list, those from number 30 on
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { wholeToken } from "../../worker/engine/model/load-remote.ts";
import type { BaseApi } from "../../worker/engine/remote/api.ts";
import { llamaCpp } from "../../worker/engine/remote/apis/llama-cpp.ts";
import { openai } from "../../worker/engine/remote/apis/openai.ts";
import { sglang } from "../../worker/engine/remote/apis/sglang.ts";
import { vllm } from "../../worker/engine/remote/apis/vllm.ts";
import { Connection } from "../../worker/engine/remote/connection.ts";
import { RemoteBase } from "../../worker/engine/remote/remote-base.ts";
import { RemoteDecoder } from "../../worker/engine/remote/remote-decoder.ts";
import { TextVocabulary } from "../../worker/engine/remote/text-vocabulary.ts";
import { ggufFile } from "../bench/models/family.ts";
import {
  DEMO_EOS,
  DEMO_VOCAB,
  demoDecoder,
  demoModels,
  demoRequest,
  demoTokenizer,
  runJob,
  type DemoJob,
  type JobResult,
} from "../support/base-server/demo.ts";
import { llamaRoutes } from "../support/base-server/llama-cpp.ts";
import { cachedLogits, decoderLogits } from "../support/base-server/logits.ts";
import { openaiRoutes } from "../support/base-server/openai.ts";
import { BaseServer, type BaseRoutes } from "../support/base-server/server.ts";
import { sglangRoutes } from "../support/base-server/sglang.ts";
import { vllmRoutes } from "../support/base-server/vllm.ts";
import { distributionOf, totalVariation } from "./bounds.ts";
import { goldenJob, JOB_OPTIONS } from "./jobs.ts";
import { startLlamaServer } from "./llama-server.ts";
import { withLogprobs } from "./log-softmax-decoder.ts";
import { tieAt } from "./ties.ts";

const TOPS = [5, 20, 64, 100];
/** Scores of two tokens that are closer than this, in nats, may change places by rounding. */
const TIE = 1e-3;
/** One tie in so many tokens. */
const TOKENS_PER_TIE = 2_000;
const TOKENS_MAX = 32;
/** The reference and the server compute in batches of other sizes. */
const DISTANCE_TOLERANCE = 1e-3;
/** Time between two lines that say how far the jobs are. */
const PROGRESS_MS = 60_000;

/** Totals of the jobs through one server with one length of list. */
interface Totals {
  readonly name: string;
  jobs: number;
  tokens: number;
  /** Jobs with other tokens, or whose bound does not hold. */
  wrong: string[];
  /** Jobs that differ from a tie on. */
  ties: number;
  calls: number;
  asked: number;
  bounded: number;
  /** Bounds that were compared with the exact distance. */
  boundsChecked: number;
}

/** A job's tokens, and the distribution of each. */
interface Reference extends JobResult {
  readonly distributions: readonly Float64Array[];
}

interface Server {
  readonly name: string;
  readonly routes: BaseRoutes;
  readonly api: (top: number) => BaseApi;
  /** Whether the whole distribution is asked for instead of running the base here. */
  readonly ownReference?: boolean;
}

let progressMs = performance.now();
stopOnInterrupt();
const { values: args } = parseArgs({
  options: {
    jobs: { type: "string", default: "1000" },
    from: { type: "string", default: "0" },
    "llama-jobs": { type: "string", default: "100" },
    json: { type: "string" },
  },
});
try {
  const rows: Totals[] = [];
  const models = await demoModels();
  const other = await demoDecoder("atlas-expert");
  const local = { ...models, base: withLogprobs(models.base, DEMO_VOCAB) };
  const logits = cachedLogits(decoderLogits(await demoDecoder("base"), DEMO_VOCAB));
  const served = { logits, vocabSize: DEMO_VOCAB };
  const vocabulary = new TextVocabulary({
    vocabSize: DEMO_VOCAB,
    eosIds: DEMO_EOS,
    tokenBytes: (id) => demoTokenizer.tokenBytes(id),
    tokenText: (id) => demoTokenizer.tokenText(id),
    encodeCompletion: (text) => demoTokenizer.encodeCompletion(text),
  });
  const hosted = { ...served, tokenizer: demoTokenizer, topMax: DEMO_VOCAB };
  const text = { model: "demo", prompts: "text", vocabulary, bosId: null } as const;
  const servers: readonly Server[] = [
    { name: "llama.cpp", routes: llamaRoutes(served), api: () => llamaCpp() },
    { name: "vllm", routes: vllmRoutes(served, DEMO_VOCAB), api: (top) => vllm("demo", top) },
    { name: "sglang", routes: sglangRoutes(served), api: () => sglang() },
    {
      name: "openai",
      routes: openaiRoutes(hosted),
      api: (top) => openai({ ...text, top }),
      ownReference: true,
    },
  ];
  const jobOf = (number: number) => goldenJob(number, TOKENS_MAX, models, other);
  const known = new Map<number, Reference>();
  const localReference = async (number: number) => {
    const reference = known.get(number) ?? (await referenceOf(local, jobOf(number)));
    known.set(number, reference);
    return reference;
  };
  const count = Math.ceil(Number(args.jobs) / (servers.length * TOPS.length));
  const numbers = numbersFrom(count);
  for (const { name, routes, api, ownReference } of count > 0 ? servers : []) {
    const server = new BaseServer(routes);
    const url = await server.listen();
    const whole = ownReference ? withBase(models, url, api(DEMO_VOCAB), DEMO_VOCAB) : null;
    const unusedIds = ownReference ? vocabulary.unusableIds : [];
    const own = new Map<number, Reference>();
    for (const top of TOPS) {
      const totals = emptyTotals(`${name}, top ${top}`);
      rows.push(totals);
      for (const number of numbers) {
        progress(totals, count);
        const job = { ...jobOf(number), unusedIds };
        const expected = whole
          ? (own.get(number) ?? (await referenceOf(whole, job)))
          : await localReference(number);
        if (whole) own.set(number, expected);
        await compare(totals, number, expected, {
          job: { ...job, trace: true },
          models: withBase(models, url, api(top), top),
          speculate: number % 3 !== 0,
        });
      }
      print(totals);
    }
    await server.close();
  }
  await throughLlama(Number(args["llama-jobs"]), rows, models, { local, jobOf, localReference });
  if (args.json) writeFileSync(args.json, JSON.stringify(rows, null, 2));
  const wrong = rows.flatMap((totals) => totals.wrong);
  for (const line of wrong) console.log(line);
  const ties = rows.reduce((sum, totals) => sum + totals.ties, 0);
  const tokens = rows.reduce((sum, totals) => sum + (totals.ties > 0 ? totals.tokens : 0), 0);
  const hasManyTies = ties * TOKENS_PER_TIE > tokens;
  if (hasManyTies)
    console.log(`${ties} ties in ${tokens} tokens: more than 1 in ${TOKENS_PER_TIE}`);
  process.exitCode = wrong.length === 0 && !hasManyTies ? 0 : 1;
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}
process.exit();

/** The base inflated to 98M parameters behind a real server, which has the logits of the local run's base up to rounding. */
async function throughLlama(
  count: number,
  rows: Totals[],
  models: Models,
  {
    local,
    jobOf,
    localReference,
  }: {
    local: Models;
    jobOf: (number: number) => DemoJob;
    localReference: (number: number) => Promise<Reference>;
  },
): Promise<void> {
  if (count === 0) return;
  const model = ggufFile("inflated", "fp32");
  const { url } = await startLlamaServer({ model, slots: 8, contextTokens: 256 });
  const totals = emptyTotals("llama.cpp server, top 64");
  rows.push(totals);
  const remote = withBase(models, url, llamaCpp(wholeToken(demoTokenizer)), 64);
  for (const number of numbersFrom(count)) {
    progress(totals, count);
    const job = jobOf(number);
    const expected = await localReference(number);
    await compare(totals, number, expected, { job, models: remote, speculate: true, local });
  }
  print(totals);
}

/** Runs a job without drafts, so that each step has the logits of its token. */
async function referenceOf(models: Models, job: DemoJob): Promise<Reference> {
  const distributions: Float64Array[] = [];
  const result = await runJob(demoRequest(models, job), false, (sequence, tokens) => {
    if (tokens > 0) distributions.push(distributionOf(sequence));
  });
  return { ...result, distributions };
}

interface Compared {
  readonly job: DemoJob;
  readonly models: Models;
  readonly speculate: boolean;
  /** Present if the base rounds otherwise: ties are then looked for with these models. */
  readonly local?: Models;
}

async function compare(
  totals: Totals,
  number: number,
  expected: Reference,
  { job, models, speculate, local }: Compared,
): Promise<void> {
  const distances: number[] = [];
  const result = await runJob(demoRequest(models, job), speculate, (sequence, made) => {
    const exact = expected.distributions[distances.length];
    if (made > 0 && !speculate && exact) {
      distances.push(totalVariation(distributionOf(sequence), exact));
    }
  });
  const { tokens, counts, analyses } = result;
  totals.jobs++;
  totals.tokens += tokens.length;
  totals.calls += counts!.calls;
  totals.asked += counts!.asked;
  totals.bounded += counts!.bounded;
  const bounds = analyses.map((analysis) => analysis?.baseError ?? 0);
  const differs = tokens.findIndex((token, i) => token !== expected.tokens[i]);
  const option = JOB_OPTIONS[number % JOB_OPTIONS.length]!.name;
  const name = `${totals.name}: job ${number} (${option})`;
  // Up to the first token that differs, both have the same context.
  for (const [i, bound] of bounds.entries()) {
    if (bound === 0 || distances[i] === undefined || (differs !== -1 && i > differs)) continue;
    totals.boundsChecked++;
    if (distances[i] <= bound + DISTANCE_TOLERANCE) continue;
    totals.wrong.push(`${name}: the bound of token ${i} is ${bound}, its distance ${distances[i]}`);
  }
  if (differs === -1 && tokens.length === expected.tokens.length) return;
  if (bounds.slice(0, differs + 1).some((bound) => bound > 0)) return;
  const gap = local ? await tieAt(local, job, expected.tokens, tokens[differs]!, differs) : null;
  if (gap !== null && gap < TIE) totals.ties++;
  else {
    const apart = gap === null ? "" : `, ${gap.toExponential(1)} nats apart`;
    totals.wrong.push(`${name} differs at token ${differs}${apart}`);
  }
}

function withBase(models: Models, url: string, api: BaseApi, top: number): Models {
  const connection = new Connection({
    url,
    name: "demo",
    key: () => null,
    concurrency: 8,
    timeoutMs: 60_000,
    patienceMs: 10_000,
  });
  const options = { api, connection, name: "demo", vocabSize: DEMO_VOCAB, top, rowsMax: 8 };
  return { ...models, base: new RemoteDecoder(new RemoteBase(options)) };
}

function numbersFrom(count: number): number[] {
  return Array.from({ length: count }, (_, i) => Number(args.from) + i);
}

function progress({ name, jobs, wrong }: Totals, count: number): void {
  if (performance.now() - progressMs < PROGRESS_MS) return;
  progressMs = performance.now();
  console.log(`${name}: ${jobs} of ${count} jobs, ${wrong.length} wrong`);
}

function emptyTotals(name: string): Totals {
  return {
    name,
    jobs: 0,
    tokens: 0,
    wrong: [],
    ties: 0,
    calls: 0,
    asked: 0,
    bounded: 0,
    boundsChecked: 0,
  };
}

function print(totals: Totals): void {
  const { name, jobs, tokens, wrong, ties, calls, asked, bounded, boundsChecked } = totals;
  const perToken = (value: number) => (value / tokens).toFixed(3);
  console.log(
    `${name.padEnd(26)} ${jobs} jobs, ${tokens} tokens: ${wrong.length} wrong, ${ties} ties, ${bounded} tokens not proven (${boundsChecked} bounds checked); per token ${perToken(calls)} calls, of which asked again ${perToken(asked)}`,
  );
}
