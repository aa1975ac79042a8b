/** `/v1/operator`: the use, the failures and the queues of all tenants, for keys with the scope `operator`. */
import { Activity } from "../../shared/api/activity.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { OperatorQueueList } from "../../shared/api/operator.ts";
import {
  dayDate,
  FailureList,
  OPERATOR_USAGE_QUERY,
  OperatorUsageReport,
  REPORT_DAYS,
} from "../../shared/api/usage.ts";
import type { ErrorCode } from "../../shared/api/error-codes.ts";
import { route, type Route } from "../http/route.ts";
import { allActivity, allFailures, allQueues, allUsage } from "../requests/all-shards.ts";
import { report, reportDays, toActivity } from "../requests/usage.ts";

const access = { scope: "operator" } as const;

export function operatorRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/operator/usage",
        operationId: "getOperatorUsage",
        tag: "Operator",
        summary: "Read the use of all tenants by day, tenant and model",
        description: `Kept for ${LIMITS.usageDays} days; a report has at most ${LIMITS.operatorReportDaysMax} days.`,
        access,
        query: OPERATOR_USAGE_QUERY,
        replies: { 200: { description: "The report.", schema: OperatorUsageReport } },
      },
      async (c, { query, json }) => {
        const nowMs = await c.var.stores.now();
        const days = reportDays(query, nowMs, LIMITS.operatorReportDaysMax);
        const filter = { owner: query.tenant, model: query.model };
        const all = await allUsage(c.var.shards, days, query.tenant);
        return json(200, report(all, filter, days, query.group_by, "tenant"));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/operator/failures",
        operationId: "listFailures",
        tag: "Operator",
        summary: "Count failures by day and error code",
        description: `Jobs of all tenants that ended with an error. A list has at most ${LIMITS.operatorReportDaysMax} days.`,
        access,
        query: REPORT_DAYS,
        replies: { 200: { description: "The counts, by day.", schema: FailureList } },
      },
      async (c, { query, json }) => {
        const nowMs = await c.var.stores.now();
        const days = reportDays(query, nowMs, LIMITS.operatorReportDaysMax);
        const failures = (await allFailures(c.var.shards, days)).map(({ day, code, jobs }) => ({
          object: "failures" as const,
          day: dayDate(day),
          code: code as ErrorCode,
          jobs,
        }));
        return json(200, { object: "list", data: failures });
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/operator/queues",
        operationId: "listQueues",
        tag: "Operator",
        summary: "List the queues of all tenants",
        description:
          "Jobs that need the same models are in one queue. The list has the queues in which jobs wait or run; of more than 200, a random sample.",
        access,
        replies: { 200: { description: "The queues, by model.", schema: OperatorQueueList } },
      },
      async (c, { json }) => {
        const { lanes, moreLanes } = await allQueues(c.var.shards);
        const queues = lanes.map(({ models, running, suspects, workers, slots, ...lane }) => ({
          object: "queue" as const,
          models,
          paused: lane.isPaused,
          running,
          suspects,
          workers,
          slots,
          tenants: lane.tenants.map(({ tenant, isBatch, jobs, tokens, ageSeconds, eta }) => ({
            tenant,
            batch: isBatch,
            waiting: jobs,
            tokens,
            age: ageSeconds,
            eta,
          })),
          more_tenants: lane.moreTenants,
        }));
        return json(200, { object: "list", data: queues, more_queues: moreLanes });
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/operator/activity",
        operationId: "getOperatorActivity",
        tag: "Operator",
        summary: "Read the last hour of all tenants",
        description: "The jobs of all tenants that ended within the last 60 minutes, by minute.",
        access,
        replies: { 200: { description: "The minutes.", schema: Activity } },
      },
      async (c, { json }) => json(200, toActivity(await allActivity(c.var.shards))),
    ),
  ];
}
