/** `/v1/jobs` as a collection: lists of jobs, and the cancellation of many. */
import { JOB_FILTER, JobPage } from "../../shared/api/job-lists.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { CancellationPage, CancellationRequest } from "../../shared/api/reruns.ts";
import { PAGE_QUERY } from "../http/page.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import {
  listedIds,
  listPage,
  METADATA_FILTER,
  metadataFilter,
  toJobSummary,
} from "../requests/job-lists.ts";

export function jobCollectionRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/jobs",
        operationId: "listJobs",
        tag: "Jobs",
        summary: "List jobs",
        description:
          "The jobs of the tenant that can still be read, in whichever protocol they were submitted. A page of filters that match rarely may have fewer jobs than `limit`, or none, although `has_more` is true: then go on after its `last_id`.",
        access: { scope: "jobs:read" },
        query: { ...PAGE_QUERY, ...JOB_FILTER },
        uses: [METADATA_FILTER],
        replies: { 200: { description: "One page of jobs.", schema: JobPage } },
      },
      async (c, { query, json }) => {
        const filter = { ...toFilter(query), metadata: metadataFilter(c) };
        const found = await listedIds(c, filter, query);
        const jobs = await c.var.stores.jobLists.read(found.ids);
        return json(200, listPage(jobs.map(toJobSummary), found, query.limit));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/jobs/cancel",
        operationId: "cancelJobs",
        tag: "Jobs",
        summary: "Cancel many jobs",
        description: `Cancels the jobs that have not ended and match all filters, the oldest first: at most ${LIMITS.pageMax} with each request. While \`has_more\` is true, send it again with \`after\`. Without a filter, all jobs of the tenant are cancelled.`,
        access: { scope: "jobs:write" },
        body: jsonBody(CancellationRequest, { metadata: { run: "7" } }),
        replies: {
          200: { description: "The jobs that were cancelled.", schema: CancellationPage },
        },
      },
      async (c, { body, json }) => {
        const { stores } = c.var;
        const limit = body.limit ?? LIMITS.pageMax;
        const page = { limit, order: "asc", after: body.after ?? undefined } as const;
        const filter = { ...toFilter(body), metadata: body.metadata ?? {}, isOpen: true };
        const found = await listedIds(c, filter, page);
        const cancelled = await Promise.all(found.ids.map((id) => stores.cancelJob(id)));
        const jobs = cancelled.flatMap((job) => {
          if (job === null) return [];
          const { id, object, state, cancel_requested } = job;
          return [{ id, object, state, cancel_requested }];
        });
        return json(200, listPage(jobs, found, limit));
      },
    ),
  ];
}

interface FilterFields {
  readonly state?: Parameters<typeof listedIds>[1]["state"] | null;
  readonly model?: string | null | undefined;
  readonly created_after?: number | null | undefined;
  readonly created_before?: number | null | undefined;
}

function toFilter({ state, model, created_after, created_before }: FilterFields) {
  return {
    state: state ?? undefined,
    model: model ?? undefined,
    createdAfter: created_after ?? undefined,
    createdBefore: created_before ?? undefined,
  };
}
