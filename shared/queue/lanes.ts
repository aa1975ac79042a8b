/**
 * Lanes. A lane is the set of ensembles that a job needs: its model and the models of its pairs. Each lane has its own fair
 * queue, and a worker takes jobs only from lanes of which it serves every ensemble. So fleets with different models share
 * one Redis, and no worker gets a job that it cannot run.
 *
 * The folder queue/ owns the order of jobs: lanes, fair queues (fair-queue-lua.ts), leases (lease-lua.ts), and estimates of the start
 * (fair-queue.ts, eta.ts). It has Lua functions for the scripts of jobs/, and knows no job's content.
 */
import { sha256Hex } from "../ids.ts";
import { NAME_SEPARATOR } from "../redis/keys.ts";
import { JOB_VERSION } from "../redis/version.ts";

/** Separates the ensembles of a lane. The manifest allows no id that contains it. */
export const LANE_SEPARATOR = "+";

/**
 * Marks a part of a lane's name as a version: jobs that only workers of that release understand wait in a lane of their own.
 * The manifest allows no id that begins with it.
 */
const VERSION_MARK = "@";

/** The end of the name of a lane for jobs of a version. */
export const VERSION_SUFFIX = `${LANE_SEPARATOR}${VERSION_MARK}`;

/** A fingerprint that is longer than this is replaced by its hash. */
const FINGERPRINT_CHARS_MAX = 64;

/** The lane of a generation: the sorted ids of its ensembles, separated by "+". */
export function laneOf({
  model,
  pairs = [],
}: {
  readonly model: string;
  readonly pairs?: readonly { readonly model: string }[];
}): string {
  const ids = new Set([model, ...pairs.map((pair) => pair.model)]);
  return [...ids].toSorted().join(LANE_SEPARATOR);
}

/** A lane as one worker serves it. */
export interface ServedLane {
  readonly lane: string;
  /** Identifies the weights of the lane's ensembles at this worker. */
  readonly fingerprint: string;
}

const isVersion = (part: string) => part.startsWith(VERSION_MARK);

/** The ensembles of a lane. */
export const modelsOfLane = (lane: string): string[] =>
  lane.split(LANE_SEPARATOR).filter((part) => !isVersion(part));

/** The lane whose running jobs are in a group of leases. The group's name is that of lease-lua.ts: fingerprint, separator, lane. */
export const laneOfGroup = (group: string): string =>
  group.slice(group.indexOf(NAME_SEPARATOR) + NAME_SEPARATOR.length);

/** Whether only workers of a newer release serve the lane. */
export function isNewerLane(lane: string): boolean {
  const versions = lane.split(LANE_SEPARATOR).filter(isVersion);
  return versions.some((part) => Number(part.slice(VERSION_MARK.length)) > JOB_VERSION);
}

/**
 * The lane as a worker serves it; null if the worker lacks one of its ensembles, or does not know its version.
 * @param served fingerprints by ensemble id
 */
export async function serveLane(
  lane: string,
  served: ReadonlyMap<string, string>,
): Promise<ServedLane | null> {
  if (isNewerLane(lane)) return null;
  const fingerprints = modelsOfLane(lane).map((id) => served.get(id));
  if (fingerprints.includes(undefined)) return null;
  const joined = fingerprints.join(LANE_SEPARATOR);
  return {
    lane,
    fingerprint: joined.length > FINGERPRINT_CHARS_MAX ? await sha256Hex(joined) : joined,
  };
}
