/**
 * The order in which a worker looks at the lanes that it serves: the lane that it served least recently comes first, so models
 * share the slots of a worker in turn. Lanes of several ensembles come before or after all others in turn: clients choose how
 * many of them there are, and they must not take more than half of a worker's turns from the others.
 */
import { laneOfGroup, modelsOfLane, serveLane, type ServedLane } from "../../shared/queue/lanes.ts";

/** Lanes of several ensembles that are looked at in one step, at most. */
const COMBINED_MAX = 64;

export class LaneRotation {
  #served: ReadonlyMap<string, string>;
  /** Least recently served first. */
  #single: ServedLane[];
  #combined: ServedLane[] = [];
  #combinedFirst = false;

  /** @param served fingerprints by the id of each ensemble that the worker serves */
  constructor(served: ReadonlyMap<string, string>) {
    this.#served = served;
    this.#single = Array.from(served, ([lane, fingerprint]) => ({ lane, fingerprint }));
  }

  /** Changes which ensembles are served. Lanes of several ensembles are found again at the next refresh. */
  serve(served: ReadonlyMap<string, string>): void {
    const known = new Set(this.#single.map(({ lane }) => lane));
    const added = [...served].filter(([lane]) => !known.has(lane));
    this.#served = served;
    this.#single = [
      ...added.map(([lane, fingerprint]) => ({ lane, fingerprint })),
      ...this.#single.filter(({ lane }) => served.has(lane)),
    ];
    this.#combined = [];
  }

  /** The lanes to take from, in this order. @param away models that cannot be served now */
  next(
    away: Pick<ReadonlyMap<string, unknown>, "has"> = new Map(),
  ): (readonly [lane: string, fingerprint: string])[] {
    const combined = this.#combined.slice(0, COMBINED_MAX);
    const lanes = this.#combinedFirst
      ? [...combined, ...this.#single]
      : [...this.#single, ...combined];
    return lanes
      .filter(({ lane }) => !modelsOfLane(lane).some((id) => away.has(id)))
      .map(({ lane, fingerprint }) => [lane, fingerprint]);
  }

  /** A job was taken from the lane. Lanes that were not looked at come before the others: it may have been behind many. */
  taken(lane: string): void {
    this.foundNone();
    const isLane = (served: ServedLane) => served.lane === lane;
    this.#combinedFirst = this.#single.some(isLane);
    const toEnd = (lanes: ServedLane[]) =>
      lanes.toSorted((a, b) => Number(isLane(a)) - Number(isLane(b)));
    this.#single = toEnd(this.#single);
    this.#combined = toEnd(this.#combined);
  }

  /** No job was found: the lanes that were not looked at come first. */
  foundNone(): void {
    const looked = this.#combined.splice(0, COMBINED_MAX);
    this.#combined.push(...looked);
  }

  /** Adds a lane that has work. @returns whether this worker serves it */
  async add(lane: string): Promise<boolean> {
    const isKnown = (served: ServedLane) => served.lane === lane;
    if (this.#single.some(isKnown) || this.#combined.some(isKnown)) return true;
    const served = await serveLane(lane, this.#served);
    if (served !== null && !this.#combined.some(isKnown)) this.#combined.push(served);
    return served !== null;
  }

  /**
   * Keeps only those lanes of several ensembles that have work.
   * @param lanes that have waiting jobs
   * @param leaseGroups of jobs that run
   */
  async refresh(lanes: readonly string[], leaseGroups: readonly string[]): Promise<void> {
    const active = new Set([...lanes, ...leaseGroups.map(laneOfGroup)]);
    this.#combined = this.#combined.filter(({ lane }) => active.has(lane));
    for (const lane of active) await this.add(lane);
  }
}
