/** Running jobs with their phase, and failures by code. No text of a job is shown; the playground shows one's own. */
import type { JobPage, JobSummary } from "../../../shared/api/job-lists.ts";
import type { OperatorJob, OperatorJobList } from "../../../shared/api/operator.ts";
import type { Reply } from "../../../shared/api/schema.ts";
import type { FailureList } from "../../../shared/api/usage.ts";
import { element } from "../../play/client/dom.ts";
import { integer, since } from "./format.ts";
import type { Part } from "./part.ts";
import { actionColumn, badge, code, table, type Column } from "./table.ts";
import type { Viewer } from "./viewer.ts";

/** Failed jobs that are shown one by one. */
const SHOWN_MAX = 20;
/** Days of an operator's failures: today and the days before. */
const FAILURE_DAYS = 7;

export const jobsPart: Part = {
  id: "jobs",
  isShownTo: (viewer) => viewer.may("operator") || viewer.may("jobs:read"),
  load: (viewer) => (viewer.may("operator") ? allRunning(viewer) : ownRunning(viewer)),
};

type AnyJob = Pick<OperatorJob, "id" | "phase" | "attempts" | "started_at" | "cancel_requested">;

const jobColumns = (
  viewer: Viewer,
  mayCancel: boolean,
  jobs: string,
): readonly Column<AnyJob>[] => [
  {
    name: "Phase",
    cell: ({ phase, cancel_requested }) =>
      cancel_requested ? badge(`${phase}, cancelled`, "bad") : phase,
  },
  { name: "Runs for", cell: ({ started_at }) => since(started_at), kind: "number" },
  { name: "Attempt", cell: ({ attempts }) => integer(attempts), kind: "number" },
  ...actionColumn<AnyJob>(mayCancel, ({ id }) =>
    viewer.button("Cancel", `cancel-${id}`, {
      subject: id,
      question: `Cancel ${id}? Its text so far is kept.`,
      path: `${jobs}/${encodeURIComponent(id)}/cancel`,
      done: `${id} is cancelled`,
    }),
  ),
];

async function allRunning(viewer: Viewer): Promise<readonly Node[]> {
  const { data, more_jobs } = await viewer.get<Reply<typeof OperatorJobList>>("/v1/operator/jobs");
  const columns: Column<OperatorJob>[] = [
    { name: "Job", cell: ({ id }) => code(id) },
    { name: "Tenant", cell: ({ tenant }) => tenant },
    { name: "Model", cell: ({ model }) => model },
    {
      name: "Worker",
      cell: ({ worker }) => (worker === null ? badge("lost", "bad") : code(worker)),
    },
    { name: "Tokens", cell: ({ tokens }) => integer(tokens), kind: "number" },
    ...jobColumns(viewer, true, "/v1/operator/jobs"),
  ];
  return [
    table("Running jobs", columns, data, "No job runs."),
    ...(more_jobs === 0 ? [] : [element("p", { class: "hint" }, `${more_jobs} more`)]),
  ];
}

async function ownRunning(viewer: Viewer): Promise<readonly Node[]> {
  const { data, has_more } = await viewer.get<Reply<typeof JobPage>>(
    "/v1/jobs?state=running&limit=100",
  );
  const columns: Column<JobSummary>[] = [
    { name: "Job", cell: ({ id }) => playgroundLink(id) },
    { name: "Model", cell: ({ model }) => model },
    ...jobColumns(viewer, viewer.may("jobs:write"), "/v1/jobs"),
  ];
  return [
    table("Running jobs", columns, data, "No job runs."),
    ...(has_more ? [element("p", { class: "hint" }, "The newest 100 are shown.")] : []),
  ];
}

const errorText = ({ error }: JobSummary) =>
  error === null ? "" : `${error.code}: ${error.message}`;

const playgroundLink = (id: string) =>
  element("a", { href: `/play#job=${encodeURIComponent(id)}` }, code(id));

export const failuresPart: Part = {
  id: "failures",
  isShownTo: (viewer) => viewer.may("operator") || viewer.may("jobs:read"),
  load: async (viewer) => [
    ...(viewer.may("operator") ? await allFailures(viewer) : []),
    ...(viewer.may("jobs:read") ? await ownFailures(viewer) : []),
  ],
};

async function allFailures(viewer: Viewer): Promise<readonly Node[]> {
  const from = new Date(Date.now() - (FAILURE_DAYS - 1) * 86_400_000).toISOString().slice(0, 10);
  const { data } = await viewer.get<Reply<typeof FailureList>>(
    `/v1/operator/failures?from=${from}`,
  );
  return [
    table(
      "Failures of all tenants by day and code",
      [
        { name: "Code", cell: (failures) => code(failures.code) },
        { name: "Day (UTC)", cell: ({ day }) => day },
        { name: "Jobs", cell: ({ jobs }) => integer(jobs), kind: "number" },
      ],
      data.toReversed(),
      `No job failed within ${FAILURE_DAYS} days.`,
    ),
  ];
}

async function ownFailures(viewer: Viewer): Promise<readonly Node[]> {
  const { data, has_more } = await viewer.get<Reply<typeof JobPage>>(
    "/v1/jobs?state=failed&limit=100",
  );
  const byCode = [...Map.groupBy(data, ({ error }) => error?.code ?? "unknown")];
  const rerun = ({ id }: JobSummary) =>
    viewer.button("Run again", `rerun-${id}`, {
      subject: id,
      question: `Submit ${id} again as a new job?`,
      path: `/v1/jobs/${encodeURIComponent(id)}/rerun`,
      body: {},
      done: `${id} was submitted again`,
    });
  const columns: Column<JobSummary>[] = [
    { name: "Job", cell: ({ id }) => playgroundLink(id) },
    { name: "Model", cell: ({ model }) => model },
    { name: "Ended", cell: ({ ended_at }) => `${since(ended_at)} ago` },
    { name: "Error", cell: errorText, kind: "text" },
    ...actionColumn(viewer.may("jobs:write"), rerun),
  ];
  return [
    table(
      "Failed jobs of this tenant by code",
      [
        { name: "Code", cell: ([name]) => code(name) },
        {
          name: has_more ? "Of the latest 100" : "Jobs that are kept",
          cell: ([, jobs]) => integer(jobs.length),
          kind: "number",
        },
      ],
      byCode,
      "No job of this tenant failed.",
    ),
    ...(data.length === 0
      ? []
      : [table("The latest failed jobs of this tenant", columns, data.slice(0, SHOWN_MAX), "")]),
  ];
}
