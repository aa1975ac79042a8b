/** One measurement: clients of one server, each of which streams one reply after the other. */
import { setMaxListeners } from "node:events";
import { processorMs, type Parts } from "../../load/resources.ts";
import { busySeconds } from "../machine.ts";
import { quantile } from "../statistics.ts";
import type { Question } from "./questions.ts";
import type { Server } from "./servers.ts";

/** With few clients, each streams more replies. */
const REQUESTS_MIN = 8;
const REQUESTS_PER_CLIENT = 2;

export interface Measurement {
  readonly tokensPerSecond: number;
  /** From the request to the first text, median and 90th percentile. */
  readonly firstTokenMs: number;
  readonly firstTokenP90Ms: number;
  readonly seconds: number;
  /** Whether it was cut off by the limit of its time: tokens are then counted by pieces of text. */
  readonly isCut: boolean;
  /** Processor cores that other programs used meanwhile; null if unknown. */
  readonly otherCores: number | null;
}

export const requestsOf = (clients: number) =>
  Math.max(REQUESTS_MIN, REQUESTS_PER_CLIENT * clients);

export interface MeasureOptions {
  readonly clients: number;
  readonly questions: readonly Question[];
  readonly limitMs: number;
}

export async function measure(
  server: Server,
  parts: Parts,
  { clients, questions, limitMs }: MeasureOptions,
): Promise<Measurement> {
  const firstTokensMs: number[] = [];
  let [next, tokens] = [0, 0];
  const limit = AbortSignal.timeout(Math.ceil(limitMs));
  setMaxListeners(0, limit);
  const client = async () => {
    while (next < questions.length && !limit.aborted) {
      const startedMs = performance.now();
      let texts = 0;
      const onText = () => {
        if (texts++ === 0) firstTokensMs.push(performance.now() - startedMs);
      };
      const generated = await server
        .stream(questions[next++]!, onText, limit)
        .catch((error: unknown) => {
          if (limit.aborted) return texts;
          throw error;
        });
      tokens += generated;
    }
  };
  const own = () => Object.values(processorMs(parts)).reduce((sum, ms) => sum + ms, 0) / 1000;
  const [busyBefore, ownBefore, startedMs] = [busySeconds(), own(), performance.now()];
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - startedMs) / 1000;
  const busyAfter = busySeconds();
  const otherCores =
    busyBefore === null || busyAfter === null
      ? null
      : Math.max(0, busyAfter - busyBefore - (own() - ownBefore)) / seconds;
  if (firstTokensMs.length === 0) {
    if (!limit.aborted) throw new Error(`${server.name}: no text`);
    firstTokensMs.push(limitMs);
  }
  firstTokensMs.sort((a, b) => a - b);
  return {
    tokensPerSecond: tokens / seconds,
    firstTokenMs: quantile(firstTokensMs, 0.5),
    firstTokenP90Ms: quantile(firstTokensMs, 0.9),
    seconds,
    isCut: limit.aborted,
    otherCores,
  };
}
