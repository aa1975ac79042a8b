/**
 * `npm run golden:remote`: the demo base behind servers, against the same ensemble run locally. Seeded jobs with every option
 * must give the same tokens through each adapter, however short the list of known tokens is. Jobs through a real llama.cpp
 * server follow: with 64 known tokens and drafts they must give what its whole distribution gives, one call for each token. Its
 * results depend on its batches by rounding, so a job may differ at a tie.
 *
 *     npm run golden:remote -- --jobs 1000 --llama-jobs 100 --json FILE
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { wholeToken } from "../../worker/engine/model/load-remote.ts";
import type { BaseApi } from "../../worker/engine/remote/api.ts";
import { llamaCpp } from "../../worker/engine/remote/apis/llama-cpp.ts";
import { sglang } from "../../worker/engine/remote/apis/sglang.ts";
import { vllm } from "../../worker/engine/remote/apis/vllm.ts";
import { Connection } from "../../worker/engine/remote/connection.ts";
import { RemoteBase } from "../../worker/engine/remote/remote-base.ts";
import { RemoteDecoder } from "../../worker/engine/remote/remote-decoder.ts";
import { family } from "../bench/models/family.ts";
import { cachedLogits, decoderLogits } from "../support/base-server/logits.ts";
import {
  DEMO_VOCAB,
  demoDecoder,
  demoModels,
  demoRequest,
  demoTokenizer,
  runJob,
  type JobResult,
} from "../support/base-server/demo.ts";
import { llamaRoutes } from "../support/base-server/llama-cpp.ts";
import { BaseServer, type BaseRoutes } from "../support/base-server/server.ts";
import { sglangRoutes } from "../support/base-server/sglang.ts";
import { vllmRoutes } from "../support/base-server/vllm.ts";
import { goldenJob, JOB_OPTIONS } from "./jobs.ts";
import { startLlamaServer } from "./llama-server.ts";
import { withLogprobs } from "./log-softmax-decoder.ts";
import { tieAt } from "./ties.ts";

const TOPS = [5, 20, 64, 100];
/** Scores of two tokens that are closer than this, in nats, may change places by rounding. */
const TIE = 1e-3;
const TOKENS_MAX = 32;

/** Totals of the jobs through one server with one length of list. */
interface Totals {
  readonly name: string;
  jobs: number;
  tokens: number;
  /** Jobs with other tokens. */
  wrong: string[];
  /** Jobs that differ from a tie on. */
  ties: number;
  calls: number;
  asked: number;
  bounded: number;
}

stopOnInterrupt();
const { values: args } = parseArgs({
  options: {
    jobs: { type: "string", default: "1000" },
    "llama-jobs": { type: "string", default: "100" },
    json: { type: "string" },
  },
});
try {
  const rows: Totals[] = [];
  const models = await demoModels();
  const local = { ...models, base: withLogprobs(models.base, DEMO_VOCAB) };
  const references = new Map<number, JobResult>();
  const reference = async (number: number) => {
    const known =
      references.get(number) ??
      (await runJob(demoRequest(local, goldenJob(number, TOKENS_MAX)), false));
    references.set(number, known);
    return known;
  };
  const logits = cachedLogits(decoderLogits(await demoDecoder("base"), DEMO_VOCAB));
  const served = { logits, vocabSize: DEMO_VOCAB };
  const servers: readonly (readonly [string, BaseRoutes, (top: number) => BaseApi])[] = [
    ["llama.cpp", llamaRoutes(served), () => llamaCpp()],
    ["vllm", vllmRoutes(served, DEMO_VOCAB), (top) => vllm("demo", top)],
    ["sglang", sglangRoutes(served), () => sglang()],
  ];
  const variants = servers.length * TOPS.length;
  const count = Math.ceil(Number(args.jobs) / variants);
  for (const [name, routes, apiOf] of count > 0 ? servers : []) {
    const server = new BaseServer(routes);
    const url = await server.listen();
    for (const top of TOPS) {
      const totals = emptyTotals(`${name}, top ${top}`);
      rows.push(totals);
      for (let number = 0; number < count; number++) {
        await compare(totals, number, await reference(number), {
          models: withBase(models, url, apiOf(top), top),
          speculate: number % 3 !== 0,
        });
      }
      print(totals);
    }
    await server.close();
  }
  await throughLlama(Number(args["llama-jobs"]), rows, models);
  if (args.json) writeFileSync(args.json, JSON.stringify(rows, null, 2));
  const wrong = rows.flatMap((totals) => totals.wrong);
  for (const line of wrong) console.log(line);
  process.exitCode = wrong.length === 0 ? 0 : 1;
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}
process.exit();

/** The base inflated to 98M parameters behind a real server. */
async function throughLlama(count: number, rows: Totals[], models: Models): Promise<void> {
  if (count === 0) return;
  const model = join(family("inflated").base, "llama-fp32.gguf");
  const url = await startLlamaServer({ model, slots: 8, contextTokens: 256 });
  const totals = emptyTotals("llama.cpp server, top 64");
  rows.push(totals);
  const api = llamaCpp(wholeToken(demoTokenizer));
  const whole = withBase(models, url, api, DEMO_VOCAB);
  const remote = withBase(models, url, api, 64);
  for (let number = 0; number < count; number++) {
    const expected = await runJob(demoRequest(whole, goldenJob(number, TOKENS_MAX)), false);
    await compare(totals, number, expected, { models: remote, speculate: true, whole });
  }
  print(totals);
}

interface Compared {
  readonly models: Models;
  readonly speculate: boolean;
  /** Present if the base rounds otherwise from call to call: ties are then looked for with these models. */
  readonly whole?: Models;
}

async function compare(
  totals: Totals,
  number: number,
  expected: JobResult,
  { models, speculate, whole }: Compared,
): Promise<void> {
  const job = goldenJob(number, TOKENS_MAX);
  const { tokens, counts } = await runJob(demoRequest(models, job), speculate);
  totals.jobs++;
  totals.tokens += tokens.length;
  totals.calls += counts!.calls;
  totals.asked += counts!.asked;
  totals.bounded += counts!.bounded;
  if (tokens.join() === expected.tokens.join() || counts!.bounded > 0) return;
  const at = tokens.findIndex((token, i) => token !== expected.tokens[i]);
  const gap = whole ? await tieAt(whole, job, expected.tokens, tokens[at]!, at) : null;
  if (gap !== null && gap < TIE) totals.ties++;
  else {
    const option = JOB_OPTIONS[number % JOB_OPTIONS.length]!.name;
    const apart = gap === null ? "" : `, ${gap.toExponential(1)} nats apart`;
    totals.wrong.push(`${totals.name}: job ${number} (${option}) differs at token ${at}${apart}`);
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

function emptyTotals(name: string): Totals {
  return { name, jobs: 0, tokens: 0, wrong: [], ties: 0, calls: 0, asked: 0, bounded: 0 };
}

function print({ name, jobs, tokens, wrong, ties, calls, asked, bounded }: Totals): void {
  const perToken = (value: number) => (value / tokens).toFixed(3);
  console.log(
    `${name.padEnd(26)} ${jobs} jobs, ${tokens} tokens: ${wrong.length} wrong, ${ties} ties, ${bounded} tokens not proven; per token ${perToken(calls)} calls, of which asked again ${perToken(asked)}`,
  );
}
