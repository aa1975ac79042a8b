/** API keys of the viewer's tenant with their use today, and for an operator the use of all tenants. */
import type { ApiKey, ApiKeyList } from "../../../shared/api/keys.ts";
import type { Reply } from "../../../shared/api/schema.ts";
import type { OperatorUsageReport, UsageReport, UsageSums } from "../../../shared/api/usage.ts";
import { decimal, duration, integer, since } from "./format.ts";
import type { Part } from "./part.ts";
import { code, table, type Column } from "./table.ts";
import type { Viewer } from "./viewer.ts";
import { element } from "../../play/client/dom.ts";

/** Today in UTC, as days are counted. */
const today = () => new Date().toISOString().slice(0, 10);

const useColumns = <Row>(useOf: (row: Row) => UsageSums | undefined): Column<Row>[] => {
  const column = (name: string, text: (use: UsageSums) => string): Column<Row> => ({
    name,
    cell: (row) => {
      const use = useOf(row);
      return use === undefined ? "–" : text(use);
    },
    kind: "number",
  });
  return [
    column("Jobs", ({ jobs }) => integer(jobs)),
    column("Failed", ({ failed }) => integer(failed)),
    column("Prompt tokens", ({ prompt_tokens }) => integer(prompt_tokens)),
    column("Generated", ({ completion_tokens }) => integer(completion_tokens)),
    column("At workers", ({ seconds }) => duration(seconds)),
  ];
};

export const keysPart: Part = {
  id: "keys",
  isShownTo: (viewer) => viewer.may("admin"),
  load: async (viewer) => {
    const [{ data }, usage] = await Promise.all([
      viewer.get<Reply<typeof ApiKeyList>>("/v1/keys"),
      viewer.get<UsageReport>(`/v1/usage?group_by=key&from=${today()}&to=${today()}`),
    ]);
    const columns: Column<ApiKey>[] = [
      { name: "Name", cell: ({ name }) => name },
      { name: "Id", cell: ({ id }) => code(id) },
      { name: "Scopes", cell: ({ scopes }) => scopes.join(", ") },
      { name: "Limits", cell: limitsText },
      { name: "Created", cell: ({ created_at }) => `${since(created_at)} ago` },
      ...useColumns<ApiKey>(({ id }) => usage.data.find(({ key }) => key === id)),
    ];
    return [table("API keys", columns, data, "There is no key.")];
  },
};

function limitsText({ limits, within }: ApiKey): string {
  const { requests_per_minute, tokens_per_minute, concurrent_jobs, alpha, models } = limits;
  const parts = [
    requests_per_minute && `${integer(requests_per_minute)} requests/min`,
    tokens_per_minute && `${integer(tokens_per_minute)} tokens/min`,
    concurrent_jobs && `${integer(concurrent_jobs)} jobs at once`,
    alpha && `alpha ${decimal(alpha.min)} to ${decimal(alpha.max)}`,
    models && models.join(", "),
    within.length > 0 && `within ${within.join(", ")}`,
  ];
  return parts.filter(Boolean).join("; ") || "none";
}

type TenantUse = Reply<typeof OperatorUsageReport>["data"][number];

/** Tenants that are shown: those with the most jobs. */
const TENANTS_MAX = 100;
/** Each reading costs a command of Redis for each tenant, so it is not repeated as often as those of the other parts. */
const TENANTS_INTERVAL_MS = 60_000;

let last: { viewer: Viewer; atMs: number; data: readonly TenantUse[] } | null = null;

/** The use of all tenants today, at most a minute old. */
async function useOfTenants(viewer: Viewer): Promise<readonly TenantUse[]> {
  const nowMs = performance.now();
  if (last?.viewer === viewer && nowMs < last.atMs + TENANTS_INTERVAL_MS) return last.data;
  const { data } = await viewer.get<Reply<typeof OperatorUsageReport>>(
    `/v1/operator/usage?group_by=tenant&from=${today()}&to=${today()}`,
  );
  last = { viewer, atMs: nowMs, data };
  return data;
}

export const tenantsPart: Part = {
  id: "tenants",
  isShownTo: (viewer) => viewer.may("operator"),
  load: async (viewer) => {
    const all = await useOfTenants(viewer);
    const shown = all.toSorted((a, b) => b.jobs - a.jobs).slice(0, TENANTS_MAX);
    const columns: Column<TenantUse>[] = [
      { name: "Tenant", cell: ({ tenant }) => tenant ?? "all" },
      ...useColumns<TenantUse>((row) => row),
    ];
    const nodes = [table("Use of all tenants today", columns, shown, "No job has ended today.")];
    const left = all.length - shown.length;
    if (left === 0) return nodes;
    return [...nodes, element("p", { class: "hint" }, `${integer(left)} tenants with fewer jobs`)];
  },
};
