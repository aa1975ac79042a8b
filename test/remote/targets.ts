/** The targets of `npm run bench:remote`. */
import { atLeast, atMost, type RatedTarget } from "../bench/rated-target.ts";

export interface Measured {
  readonly name: "base alone, streamed" | "steered" | "steered, one call per token";
  readonly latencyMs: number;
  readonly jobs: number;
  readonly temperature: number;
  readonly tokensPerSecond: number;
  readonly callsPerToken?: number;
  readonly askedPerToken?: number;
  readonly bytesPerToken?: number;
  readonly acceptedShare?: number;
  /** Calls per token by their reason. */
  readonly reasons?: Readonly<Record<string, number>>;
}

/** Targets of which nothing was measured are left out. */
export function ratedTargets(results: readonly Measured[]): RatedTarget[] {
  const steered = results.filter(({ name }) => name === "steered");
  const speedOf = (name: Measured["name"], { latencyMs, jobs, temperature }: Measured) =>
    results.find(
      (other) =>
        other.name === name &&
        other.latencyMs === latencyMs &&
        other.jobs === jobs &&
        (name === "base alone, streamed" || other.temperature === temperature),
    )!.tokensPerSecond;
  const ratioTo = (name: Measured["name"]) => (one: Measured) =>
    one.tokensPerSecond / speedOf(name, one);
  const calls = ({ callsPerToken = 0 }: Measured) => callsPerToken;
  const bytes = ({ bytesPerToken = 0 }: Measured) => bytesPerToken / 1000;
  const alone = steered.filter(({ jobs }) => jobs === 1);
  const slow = alone.filter(({ latencyMs }) => latencyMs === 20);
  const greedy = alone.filter(({ temperature }) => temperature === 0);
  const sampled = alone.filter(({ temperature }) => temperature > 0);
  const busy = steered.filter(({ jobs, latencyMs }) => jobs === 32 && latencyMs === 0);
  return [
    atMost("calls per token, greedy, 1 job", greedy.map(calls), 0.35),
    atMost("calls per token, sampled, 1 job", sampled.map(calls), 0.5),
    atMost("kB per token, 1 job", alone.map(bytes), 8),
    atLeast(
      "of the base's own stream, 20 ms, 1 job",
      slow.map(ratioTo("base alone, streamed")),
      0.8,
    ),
    atLeast(
      "of one call per token, 20 ms, 1 job",
      slow.map(ratioTo("steered, one call per token")),
      3,
    ),
    atLeast("of 32 base-only clients, 32 jobs", busy.map(ratioTo("base alone, streamed")), 0.6),
  ].filter(({ measured }) => Number.isFinite(measured));
}
