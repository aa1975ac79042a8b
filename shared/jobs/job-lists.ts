/** Lists of a tenant's jobs, by state, model, metadata and time, from the index (job-index-lua.ts). */
import * as v from "valibot";
import type { JobState } from "../api/jobs.ts";
import { CHAT_FACET, metadataFacets, modelFacet } from "./facets.ts";
import {
  listJobs,
  listOrderKeys,
  removeExpiredJobs,
  type ListOrder,
  type ListPlace,
  type ListReply,
} from "./job-list-script.ts";
import { JOB_STATES } from "../api/jobs.ts";
import type { Outcome } from "../api/job-events.ts";
import { progressFields } from "./phase.ts";
import { count, countOrNull, fromJson } from "../redis/fields.ts";
import { DUE_KEY, jobKey, JOB_INDEX_PREFIX, LIST_PLACE_PREFIX } from "../redis/keys.ts";
import type { RedisClient } from "../redis/client.ts";
import { JOB_VERSION } from "../redis/version.ts";

/** Calls of the script for one page. Filters that match rarely give a page with fewer jobs: the reading of lists has no rate limit. */
const CALLS_MAX = 2;

export interface JobFilter {
  readonly state?: JobState | undefined;
  readonly model?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Submitted at this time or later, and before that time, in Unix seconds. */
  readonly createdAfter?: number | undefined;
  readonly createdBefore?: number | undefined;
  /** Only chats that succeeded, without `store: false`; of those with several choices the first job. */
  readonly isChat?: boolean;
  /** Only jobs that have not ended. */
  readonly isOpen?: boolean;
}

export interface ListPage {
  readonly limit: number;
  readonly isDescending: boolean;
  readonly after: ListPlace | null;
}

export interface JobIds {
  readonly ids: readonly string[];
  /** The last job that was looked at; null if there was none. The next page begins behind it. */
  readonly last: ListPlace | null;
  readonly hasMore: boolean;
}

/** The fields of a job that lists show. The prompt and the output are not among them: a page of them may have 100 MB. */
const ListedJob = v.object({
  id: v.string(),
  version: v.optional(v.string()),
  model: v.string(),
  state: v.picklist(JOB_STATES),
  attempt: count,
  metadata: v.pipe(fromJson, v.record(v.string(), v.string())),
  createdAtMs: count,
  startedAtMs: countOrNull,
  endedAtMs: countOrNull,
  deletedAtMs: countOrNull,
  priority: v.optional(v.pipe(v.string(), v.transform(Number)), "0"),
  cancelRequested: v.optional(v.string(), ""),
  outcome: v.optional(
    v.pipe(
      fromJson,
      v.transform((value) => value as Outcome),
    ),
  ),
  ...progressFields,
});
export type ListedJob = v.InferOutput<typeof ListedJob>;
const LISTED_FIELDS = Object.keys(ListedJob.entries);

export class JobLists {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** The ids of one page. */
  async ids(tenant: string, filter: JobFilter, page: ListPage): Promise<JobIds> {
    const order = { tenant, ...(await facetsOf(filter)), isDescending: page.isDescending };
    const keys = listOrderKeys(order);
    const ids: string[] = [];
    let last = page.after;
    let hasMore = true;
    for (let call = 0; call < CALLS_MAX && hasMore && ids.length < page.limit; call++) {
      const countMax = page.limit - ids.length;
      const rest: ListOrder = { ...order, ...(last && { after: last }), countMax };
      const reply = (await listJobs(this.#redis, keys, [JSON.stringify(rest)])) as ListReply;
      const [atMs, id, more, ...found] = reply;
      if (id !== "") last = { atMs: Number(atMs), id };
      hasMore = more === 1;
      ids.push(...found);
    }
    return { ids, last: last === page.after ? null : last, hasMore };
  }

  /** The entries of these jobs in a list. Jobs that were deleted meanwhile, or that only a newer release can read, are left out. */
  async read(ids: readonly string[]): Promise<ListedJob[]> {
    const all = await Promise.all(ids.map((id) => this.#redis.hmget(jobKey(id), ...LISTED_FIELDS)));
    return all.flatMap((values) => {
      const entries = LISTED_FIELDS.flatMap((name, i) =>
        values[i] == null ? [] : [[name, values[i]]],
      );
      if (entries.length === 0) return [];
      const fields = Object.fromEntries(entries);
      const job = v.safeParse(ListedJob, fields);
      if (job.success) return [job.output];
      // The others of the page are shown although a newer release writes this one in another form.
      if (Number(fields["version"] ?? 0) > JOB_VERSION) return [];
      throw new v.ValiError(job.issues);
    });
  }

  /** The place of a job in the lists of its tenant, also for some minutes after it has left them; null if it has none. */
  async placeOf(tenant: string, id: string): Promise<ListPlace | null> {
    const atMs =
      (await this.#redis.zscore(`${JOB_INDEX_PREFIX}${tenant}:all`, id)) ??
      (await this.#redis.get(`${LIST_PLACE_PREFIX}${tenant}:${id}`));
    return atMs === null ? null : { atMs: Number(atMs), id };
  }

  /** Removes jobs that have expired from the index. @returns how many there were, at most `countMax` */
  async removeExpired(countMax: number): Promise<number> {
    return (await removeExpiredJobs(this.#redis, [DUE_KEY], [countMax])) as number;
  }
}

async function facetsOf(filter: JobFilter) {
  const { state, model, metadata = {}, createdAfter, createdBefore, isChat, isOpen } = filter;
  const states = state === undefined ? ["all"] : [state === "queued" ? "open" : state];
  return {
    facets: [
      ...(isOpen ? ["open"] : []),
      ...(isChat ? [CHAT_FACET, "succeeded"] : states),
      ...(model === undefined ? [] : [modelFacet(model)]),
      ...(await metadataFacets(metadata)),
    ],
    without: state === "queued" ? ["running"] : [],
    ...(createdAfter !== undefined && { fromMs: Math.ceil(createdAfter * 1000) }),
    ...(createdBefore !== undefined && { beforeMs: Math.ceil(createdBefore * 1000) }),
  };
}
