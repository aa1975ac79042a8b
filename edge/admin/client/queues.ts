/** The queues: for an operator of all tenants, otherwise the waiting jobs of the viewer's tenant. */
import type { JobPage, JobSummary } from "../../../shared/api/job-lists.ts";
import type { Job } from "../../../shared/api/jobs.ts";
import type { OperatorQueueList } from "../../../shared/api/operator.ts";
import type { Eta } from "../../../shared/api/queue.ts";
import type { Reply } from "../../../shared/api/schema.ts";
import { element } from "../../play/client/dom.ts";
import { duration, integer, since } from "./format.ts";
import type { Part } from "./part.ts";
import { badge, table } from "./table.ts";
import type { Viewer } from "./viewer.ts";

/** Models whose oldest waiting job is asked for its estimate. */
const ESTIMATES_MAX = 8;

export const queuesPart: Part = {
  id: "queues",
  isShownTo: (viewer) => viewer.may("operator") || viewer.may("jobs:read"),
  load: (viewer) => (viewer.may("operator") ? allQueues(viewer) : ownQueues(viewer)),
};

const etaText = (eta: Eta | null) =>
  eta === null ? "–" : `${duration(eta.p50)} (90%: ${duration(eta.p90)})`;

async function allQueues(viewer: Viewer): Promise<readonly Node[]> {
  const { data, more_queues } =
    await viewer.get<Reply<typeof OperatorQueueList>>("/v1/operator/queues");
  const waiting = data.flatMap((queue) => queue.tenants.map((tenant) => ({ queue, tenant })));
  const more = data.reduce((sum, queue) => sum + queue.more_tenants, 0);
  return [
    table(
      "Queues by model",
      [
        { name: "Models", cell: ({ models }) => models.join(" + ") },
        {
          name: "Waiting",
          cell: ({ tenants }) => integer(tenants.reduce((sum, { waiting: jobs }) => sum + jobs, 0)),
          kind: "number",
        },
        { name: "Running", cell: ({ running }) => integer(running), kind: "number" },
        { name: "Suspects", cell: ({ suspects }) => integer(suspects), kind: "number" },
        { name: "Slots", cell: ({ slots }) => integer(slots), kind: "number" },
        {
          name: "State",
          cell: ({ paused, workers }) => {
            if (paused) return badge("paused", "bad");
            return workers === 0
              ? badge("no worker", "bad")
              : badge(`${workers} ${workers === 1 ? "worker" : "workers"}`, "good");
          },
        },
      ],
      data,
      "No job waits or runs.",
    ),
    ...(waiting.length === 0
      ? []
      : [
          element("h3", {}, "Waiting, by tenant"),
          table(
            "Waiting jobs by tenant",
            [
              {
                name: "Tenant",
                cell: ({ tenant: { tenant, batch } }) => (batch ? `${tenant} (batches)` : tenant),
              },
              { name: "Models", cell: ({ queue }) => queue.models.join(" + ") },
              { name: "Waiting", cell: ({ tenant }) => integer(tenant.waiting), kind: "number" },
              { name: "Tokens", cell: ({ tenant }) => integer(tenant.tokens), kind: "number" },
              { name: "Age of the next", cell: ({ tenant }) => duration(tenant.age) },
              { name: "A new job starts in", cell: ({ tenant }) => etaText(tenant.eta) },
            ],
            waiting,
            "",
          ),
        ]),
    ...(more_queues + more === 0
      ? []
      : [element("p", { class: "hint" }, `${more_queues} more queues, ${more} more tenants`)]),
  ];
}

async function ownQueues(viewer: Viewer): Promise<readonly Node[]> {
  const { data, has_more } = await viewer.get<Reply<typeof JobPage>>(
    "/v1/jobs?state=queued&limit=100&order=asc",
  );
  const byModel = [...Map.groupBy(data, ({ model }) => model).values()];
  const rows = await Promise.all(byModel.map((jobs, i) => ownQueue(viewer, jobs, i)));
  return [
    table(
      "Waiting jobs by model",
      [
        { name: "Model", cell: ({ first }) => first.model },
        {
          name: "Waiting",
          cell: ({ jobs }) => `${integer(jobs)}${has_more ? " or more" : ""}`,
          kind: "number",
        },
        { name: "Age of the oldest", cell: ({ first }) => since(first.created_at) },
        {
          name: "It starts in",
          cell: ({ place }) =>
            place?.reason ? badge(place.reason, "bad") : etaText(place?.eta ?? null),
        },
      ],
      rows,
      "No job waits.",
    ),
  ];
}

async function ownQueue(viewer: Viewer, jobs: readonly JobSummary[], i: number) {
  const first = jobs[0]!;
  // It may have started, or was deleted, meanwhile.
  const job =
    i < ESTIMATES_MAX
      ? await viewer.get<Job>(`/v1/jobs/${encodeURIComponent(first.id)}`).catch(() => null)
      : null;
  return { first, jobs: jobs.length, place: job?.queue ?? null };
}
