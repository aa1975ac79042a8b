/** The filter of metadata and the page, for all routes that list jobs. */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { Metadata } from "../../shared/api/generation.ts";
import type { JobSummary } from "../../shared/api/job-lists.ts";
import { field } from "../../shared/api/schema.ts";
import { toJobId } from "../../shared/jobs/ids.ts";
import type { JobFilter, JobIds, ListedJob } from "../../shared/jobs/job-lists.ts";
import { phaseOf, seconds, timingsOf } from "../../shared/jobs/phase.ts";
import { parseRequest } from "../../shared/submission/validate.ts";
import type { AppContext } from "../http/context.ts";
import { queryPairs } from "../http/query.ts";
import type { ContractPart } from "../http/route.ts";

/** The contract part of routes that call `metadataFilter`. */
export const METADATA_FILTER: ContractPart = {
  query: {
    metadata: field(
      v.optional(Metadata),
      "Only objects that have all of these pairs in their metadata: `metadata[run]=7`.",
      { examples: [{ run: "7" }] },
    ),
  },
};

/** The pairs of `metadata[name]=value` in the query. @throws AppError invalid_request */
export function metadataFilter(c: AppContext): Record<string, string> {
  if (c.req.query("metadata") !== undefined) {
    const message = "metadata must be given as metadata[name]=value";
    throw new AppError("invalid_request", message, { param: "metadata" });
  }
  const metadata = Object.fromEntries(queryPairs(c, "metadata"));
  return parseRequest(v.object({ metadata: Metadata }), { metadata }).metadata;
}

interface PageQuery {
  readonly limit: number;
  readonly order: "asc" | "desc";
  readonly after?: string | undefined;
}

/** The ids of a page. @throws AppError invalid_request if `after` is no job of the caller's tenant */
export async function listedIds(
  c: AppContext,
  filter: JobFilter,
  { limit, order, after }: PageQuery,
): Promise<JobIds> {
  const { stores, principal } = c.var;
  const { tenant } = principal;
  const { jobLists } = stores;
  const place = after ? await jobLists.placeOf(tenant, toJobId(after)) : null;
  if (after && place === null) {
    const message = "after must be the id of a job of a page before";
    throw new AppError("invalid_request", message, { param: "after" });
  }
  return jobLists.ids(tenant, filter, { limit, isDescending: order === "desc", after: place });
}

/**
 * The envelope of a page. If filters match rarely, a page may have fewer objects than asked for, or none, although there are more:
 * the next page then begins after the last job that was looked at.
 */
export function listPage<T extends { readonly id: string }>(
  data: readonly T[],
  { ids, last, hasMore }: JobIds,
  limit: number,
) {
  const isCut = hasMore && ids.length < limit;
  const last_id = (isCut ? last?.id : null) ?? data.at(-1)?.id ?? last?.id ?? null;
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id,
    has_more: hasMore,
  } as const;
}

export function toJobSummary(job: ListedJob): JobSummary {
  const { outcome } = job;
  return {
    id: job.id,
    object: "job",
    model: job.model,
    state: job.state,
    phase: phaseOf(job),
    timings: timingsOf(job),
    created_at: seconds(job.createdAtMs),
    started_at: seconds(job.startedAtMs),
    ended_at: seconds(job.endedAtMs),
    deleted_at: seconds(job.deletedAtMs),
    priority: job.priority,
    attempts: job.attempt,
    cancel_requested: job.cancelRequested === "1",
    finish_reason: outcome?.finish_reason ?? null,
    usage: outcome?.usage ?? null,
    error: outcome?.error ?? null,
    metadata: job.metadata,
  };
}
