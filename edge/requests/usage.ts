/** Reports of the use of the service: their days, their groups, and their rows as the API returns them. */
import type { Activity } from "../../shared/api/activity.ts";
import { AppError } from "../../shared/api/errors.ts";
import { dayDate, dayNumber, type UsageSums } from "../../shared/api/usage.ts";
import { DAY_MS, OTHERS } from "../../shared/usage/usage-lua.ts";
import {
  groupUsage,
  type ActivityMinute,
  type Days,
  type UsageEntry,
} from "../../shared/usage/store.ts";

/** Days of a report that names none. */
const DAYS_DEFAULT = 30;
/** The owner and the model of the entry that counts all others of its day: no tenant, key or model has this name. */
const OTHER = "(other)";

/** Today, by Redis' clock, as the days are counted. */
export const today = (nowMs: number) => Math.floor(nowMs / DAY_MS);

/** The days of a report. @throws AppError invalid_request */
export function reportDays(
  { from, to }: { readonly from?: string | undefined; readonly to?: string | undefined },
  nowMs: number,
  daysMax: number,
): Days {
  const last = to === undefined ? today(nowMs) : dayNumber(to)!;
  const first = from === undefined ? last - DAYS_DEFAULT + 1 : dayNumber(from)!;
  if (first > last) {
    throw new AppError("invalid_request", "from must not be after to", { param: "from" });
  }
  if (last - first + 1 > daysMax) {
    const message = `from and to must be at most ${daysMax} days together, received ${last - first + 1}`;
    throw new AppError("invalid_request", message, { param: "from" });
  }
  return [first, last];
}

type Group = "day" | "owner" | "model";

/**
 * The parts of a report: rows of the groups, and their sums.
 * @param all the entries of these days
 * @param ownerName what the owner is called in the rows
 */
export function report<const OwnerName extends "key" | "tenant">(
  all: readonly UsageEntry[],
  { owner, model }: { readonly owner: string | undefined; readonly model: string | undefined },
  days: Days,
  groups: readonly ("day" | "model" | OwnerName)[],
  ownerName: OwnerName,
) {
  const entries = all.filter(
    (entry) => entry.owner === (owner ?? entry.owner) && entry.model === (model ?? entry.model),
  );
  const by = groups.map((group): Group => (group === "day" || group === "model" ? group : "owner"));
  const sorted = groupUsage(entries, by).toSorted(
    (a, b) =>
      (by.includes("day") ? a.day - b.day : 0) ||
      (by.includes("owner") ? compare(a.owner, b.owner) : 0) ||
      compare(a.model, b.model),
  );
  const rows = sorted.map((entry) => ({
    day: by.includes("day") ? dayDate(entry.day) : null,
    [ownerName]: by.includes("owner") ? entry.owner || OTHER : null,
    model: by.includes("model") ? entry.model || OTHER : null,
    ...usageSums(entry),
  }));
  return {
    object: "usage",
    from: dayDate(days[0]),
    to: dayDate(days[1]),
    data: rows as ({ readonly day: string | null; readonly model: string | null } & {
      readonly [Name in OwnerName]: string | null;
    } & UsageSums)[],
    incomplete: all.some((entry) => entry.model === OTHERS),
    total: totalUsage(entries),
  } as const;
}

/** The sums of all entries. */
export function totalUsage(entries: readonly UsageEntry[]): UsageSums {
  const [total = NO_USE] = groupUsage(entries, []);
  return usageSums(total);
}

const NO_USE: UsageEntry = {
  day: 0,
  owner: "",
  model: "",
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  expired: 0,
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  baseCalls: 0,
  ms: 0,
};

function usageSums(entry: UsageEntry): UsageSums {
  const { succeeded, failed, cancelled, expired } = entry;
  return {
    jobs: succeeded + failed + cancelled + expired,
    succeeded,
    failed,
    cancelled,
    expired,
    prompt_tokens: entry.promptTokens,
    cached_tokens: entry.cachedTokens,
    completion_tokens: entry.completionTokens,
    base_calls: entry.baseCalls,
    seconds: entry.ms / 1000,
  };
}

/** The minutes of a report of the activity. */
export function toActivity(minutes: readonly ActivityMinute[]): Activity {
  const data = minutes.map(({ atMs, promptTokens, completionTokens, ms, waitMs, ...counts }) => ({
    at: atMs / 1000,
    ...counts,
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    seconds: ms / 1000,
    wait_seconds: waitMs / 1000,
  }));
  return { object: "activity", data };
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
