/** Reads the use of the service, which usage-lua.ts counts. This is the folder's main file; the folder knows no HTTP. */
import {
  ACTIVITY_PREFIX,
  FAILURES_PREFIX,
  USAGE_PREFIX,
  USAGE_TENANTS_PREFIX,
} from "../redis/keys.ts";
import type { RedisClient } from "../redis/client.ts";
import { redisNow } from "../redis/clock.ts";
import { ACTIVITY_SUMS, HOUR_MS, MINUTE_MS, NAME_SEPARATOR, USAGE_SUMS } from "./usage-lua.ts";

/** Minutes of a report of the activity. */
const ACTIVITY_MINUTES = 60;

/** Days, and tenants of one day, that are read at the same time. */
const DAYS_AT_ONCE = 10;
const TENANTS_AT_ONCE = 100;

/** The first and the last day, both included. */
export type Days = readonly [first: number, last: number];

export type UsageSums = Readonly<Record<(typeof USAGE_SUMS)[number], number>>;

/** The use of the jobs that ended on one day. */
export interface UsageEntry extends UsageSums {
  /** Days since 1970-01-01 (UTC). */
  readonly day: number;
  /** The API key, or the tenant in the operator's view; with the model, empty for the entry of all others. */
  readonly owner: string;
  readonly model: string;
}

/** The use of the jobs that ended within one minute. */
export interface ActivityMinute extends Readonly<Record<(typeof ACTIVITY_SUMS)[number], number>> {
  /** Its beginning, in Unix milliseconds. */
  readonly atMs: number;
}

export class UsageStore {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** The time of Redis, which decides on which day a job ends (Unix ms). */
  nowMs(): Promise<number> {
    return redisNow(this.#redis);
  }

  /** A tenant's use by day, API key and model. @param days from the first to the last, both included */
  ofTenant(tenant: string, days: Days): Promise<UsageEntry[]> {
    return this.#read(`${USAGE_PREFIX}${tenant}:`, days);
  }

  /** The use of all tenants, or of one, by day, tenant and model. */
  async byTenant([first, last]: Days, only?: string): Promise<UsageEntry[]> {
    const entries: UsageEntry[] = [];
    for (let day = first; day <= last; day++) {
      const all = await this.#redis.smembers(USAGE_TENANTS_PREFIX + day);
      const tenants = only === undefined ? all : all.filter((tenant) => tenant === only);
      for (let i = 0; i < tenants.length; i += TENANTS_AT_ONCE) {
        const some = tenants.slice(i, i + TENANTS_AT_ONCE);
        const used = await Promise.all(some.map((tenant) => this.ofTenant(tenant, [day, day])));
        for (const [k, ofTenant] of used.entries()) {
          const owned = ofTenant.map((entry) => ({ ...entry, owner: some[k]! }));
          entries.push(...groupUsage(owned, ["day", "model"]));
        }
      }
    }
    return entries;
  }

  /** Jobs that ended with an error, by day and error code. */
  async failures([first, last]: Days) {
    const found: { day: number; code: string; jobs: number }[] = [];
    for (let day = first; day <= last; day++) {
      const codes = await this.#redis.hgetall(`${FAILURES_PREFIX}${day}`);
      for (const [code, jobs] of Object.entries(codes))
        found.push({ day, code, jobs: Number(jobs) });
    }
    return found;
  }

  /** The last 60 minutes, the one that is not over included. @param tenant null for all tenants together */
  async activity(tenant: string | null): Promise<ActivityMinute[]> {
    const nowMs = await this.nowMs();
    const hour = Math.floor(nowMs / HOUR_MS);
    const [before, now] = await Promise.all(
      [hour - 1, hour].map((each) =>
        this.#redis.hgetall(`${ACTIVITY_PREFIX}${each}:${tenant ?? ""}`),
      ),
    );
    const counted = { ...before, ...now };
    const last = Math.floor(nowMs / MINUTE_MS);
    return Array.from({ length: ACTIVITY_MINUTES }, (_, i) => {
      const minute = last - (ACTIVITY_MINUTES - 1) + i;
      const sums = JSON.parse(counted[minute] ?? "[]") as number[];
      const named = Object.fromEntries(ACTIVITY_SUMS.map((sum, k) => [sum, sums[k] ?? 0]));
      return { ...(named as Omit<ActivityMinute, "atMs">), atMs: minute * MINUTE_MS };
    });
  }

  async #read(prefix: string, [first, last]: Days): Promise<UsageEntry[]> {
    const entries: UsageEntry[] = [];
    for (let from = first; from <= last; from += DAYS_AT_ONCE) {
      const count = Math.min(DAYS_AT_ONCE, last - from + 1);
      const days = Array.from({ length: count }, (_, i) => from + i);
      const hashes = await Promise.all(days.map((day) => this.#redis.hgetall(prefix + day)));
      for (const [i, hash] of hashes.entries())
        for (const [name, sums] of Object.entries(hash))
          entries.push(toEntry(days[i]!, name, sums));
    }
    return entries;
  }
}

function toEntry(day: number, name: string, sums: string): UsageEntry {
  const [owner = "", model = ""] = name.split(NAME_SEPARATOR);
  const numbers = JSON.parse(sums) as number[];
  const named = Object.fromEntries(USAGE_SUMS.map((sum, i) => [sum, numbers[i] ?? 0]));
  return { day, owner, model, ...(named as UsageSums) };
}

/** The entries in groups: those with the same value of each of these members are added. */
export function groupUsage(
  entries: readonly UsageEntry[],
  by: readonly ("day" | "owner" | "model")[],
): UsageEntry[] {
  const groups = new Map<string, UsageEntry>();
  for (const entry of entries) {
    const name = JSON.stringify(by.map((member) => entry[member]));
    const before = groups.get(name);
    groups.set(name, before === undefined ? entry : { ...before, ...addSums(before, entry) });
  }
  return [...groups.values()];
}

const addSums = (a: UsageSums, b: UsageSums) =>
  Object.fromEntries(USAGE_SUMS.map((sum) => [sum, a[sum] + b[sum]])) as UsageSums;
