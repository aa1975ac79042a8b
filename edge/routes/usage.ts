/** `/v1/usage`, `/v1/activity` and `/v1/keys/me`: what the caller's key, or all keys of its tenant, used, and what is left of its limits. */
import { Activity } from "../../shared/api/activity.ts";
import { CurrentApiKey } from "../../shared/api/keys.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { AppError } from "../../shared/api/errors.ts";
import { USAGE_QUERY, UsageReport } from "../../shared/api/usage.ts";
import { route, type Route } from "../http/route.ts";
import { report, reportDays, toActivity, today, totalUsage } from "../requests/usage.ts";
import { toApiKey } from "./keys.ts";

export function usageRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/usage",
        operationId: "getUsage",
        tag: "Keys",
        summary: "Read the use by day, API key and model",
        description: `Tokens, jobs and seconds of the jobs that ended on these days. Each job counts once, in the step that ends it. A key with the scope \`admin\` sees all keys of its tenant, any other one itself. Kept for ${LIMITS.usageDays} days, also of revoked keys; a report has at most ${LIMITS.usageReportDaysMax} days.`,
        access: "any_key",
        query: USAGE_QUERY,
        replies: { 200: { description: "The report.", schema: UsageReport } },
      },
      async (c, { query, json }) => {
        const { principal, stores } = c.var;
        const seesAll = principal.scopes.includes("admin");
        if (!seesAll && query.key !== undefined && query.key !== principal.id) {
          const message = "This API key does not have the scope admin, and sees only its own use";
          throw new AppError("permission_denied", message, { param: "key" });
        }
        const { usage } = stores;
        const days = reportDays(query, await usage.nowMs(), LIMITS.usageReportDaysMax);
        const filter = { owner: seesAll ? query.key : principal.id, model: query.model };
        const all = await usage.ofTenant(principal.tenant, days);
        return json(200, report(all, filter, days, query.group_by, "key"));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/activity",
        operationId: "getActivity",
        tag: "Keys",
        summary: "Read the tenant's last hour",
        description: "The tenant's jobs that ended within the last 60 minutes, by minute.",
        access: { scope: "admin" },
        replies: { 200: { description: "The minutes.", schema: Activity } },
      },
      async (c, { json }) => {
        const { principal, stores } = c.var;
        return json(200, toActivity(await stores.usage.activity(principal.tenant)));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/keys/me",
        operationId: "getCurrentApiKey",
        tag: "Keys",
        summary: "Read the API key of this request",
        description:
          "Its limits, what is left of them now, and what its jobs that ended today (UTC) used.",
        access: "any_key",
        replies: { 200: { description: "The key.", schema: CurrentApiKey } },
      },
      async (c, { json }) => {
        const { principal, stores } = c.var;
        const { usage } = stores;
        const day = today(await usage.nowMs());
        const [remaining, entries] = await Promise.all([
          stores.rateLimits([principal, ...principal.within]),
          usage.ofTenant(principal.tenant, [day, day]),
        ]);
        const own = entries.filter(({ owner }) => owner === principal.id);
        c.header("Cache-Control", "no-store");
        return json(200, {
          ...toApiKey(principal),
          tenant: principal.tenant,
          remaining,
          usage_today: totalUsage(own),
        });
      },
    ),
  ];
}
