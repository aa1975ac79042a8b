/**
 * Rounds over the numbers of clients; in each, the servers are measured in turns, so that a change of the machine's speed affects all
 * alike. Rounds that would pass the deadline are left out.
 */
import type { Parts } from "../../load/resources.ts";
import { measure, requestsOf, type Measurement } from "./measure.ts";
import type { Question } from "./questions.ts";
import { isLlama, type Form, type Server } from "./servers.ts";

/** A server that is slower than this at so few requests is cut off. */
const MEASUREMENT_MS_MAX = 60_000;

/** A llama.cpp server that takes this much longer than another one for the same questions is cut off. */
const LOST = 1.2;

/** Measurements of one number of clients, one after the other: by name of the server. */
export interface Turn {
  readonly form: Form;
  readonly clients: number;
  readonly measured: Readonly<Record<string, Measurement>>;
}

export interface RoundOptions {
  readonly form: Form;
  readonly clients: readonly number[];
  readonly rounds: number;
  /** By `performance.now()`. */
  readonly deadlineMs: number;
  readonly log: (text: string) => void;
}

export async function runRounds(
  servers: readonly Server[],
  parts: Parts,
  questions: readonly Question[],
  { form, clients: counts, rounds, deadlineMs, log }: RoundOptions,
): Promise<Turn[]> {
  const turns: Turn[] = [];
  let used = 0;
  for (let round = 0; round < rounds; round++) {
    for (const clients of counts) {
      const earlier = turns.filter((turn) => turn.clients === clients);
      const candidates = servers.filter(({ name }) => !isSlowerLlama(name, earlier[0]));
      if (performance.now() + expectedMs(candidates, earlier) > deadlineMs) {
        log(`${form}, ${clients} clients: round ${round + 1} is left out, the time is used up`);
        continue;
      }
      const asked = Array.from(
        { length: requestsOf(clients) },
        () => questions[used++ % questions.length]!,
      );
      const measured: Record<string, Measurement> = {};
      for (const i of candidates.keys()) {
        const server = candidates[(i + round) % candidates.length]!;
        const lostMs = isLlama(server.name) ? llamaMs(measured) * LOST : Infinity;
        const leftMs = deadlineMs - performance.now();
        const limitMs = Math.min(MEASUREMENT_MS_MAX, lostMs, leftMs);
        if (limitMs <= 0) continue;
        const sample = await measure(server, parts, { clients, questions: asked, limitMs });
        measured[server.name] = sample;
        log(
          `${form}, ${clients} clients, round ${round + 1}: ${server.name}: ${sample.tokensPerSecond.toFixed(0)} tokens/s, first after ${sample.firstTokenMs.toFixed(0)} ms${sample.isCut ? "; cut off" : ""}`,
        );
      }
      turns.push({ form, clients, measured });
    }
  }
  return turns;
}

/** Of the llama.cpp servers only the faster one goes on after the first round. */
function isSlowerLlama(name: string, first: Turn | undefined): boolean {
  return first !== undefined && isLlama(name) && fastestLlama(first) !== name;
}

/** Time of the fastest llama.cpp server of a turn so far. */
function llamaMs(measured: Turn["measured"]): number {
  const times = Object.entries(measured).filter(([name]) => isLlama(name));
  return 1000 * Math.min(...times.map(([, { seconds }]) => seconds));
}

/** Time of a turn by the longest measurement of each server so far. */
function expectedMs(servers: readonly Server[], earlier: readonly Turn[]): number {
  const longest = servers.map(({ name }) =>
    Math.max(0, ...earlier.map(({ measured }) => measured[name]?.seconds ?? 0)),
  );
  return 1000 * longest.reduce((sum, seconds) => sum + seconds, 0);
}

/** Name of the faster llama.cpp server of a turn. */
export function fastestLlama({ measured }: Turn): string | null {
  const [fastest] = Object.entries(measured)
    .filter(([name]) => isLlama(name))
    .toSorted(([, a], [, b]) => b.tokensPerSecond - a.tokensPerSecond);
  return fastest?.[0] ?? null;
}
