/** `/v1/jobs/{id}`: the request that a job was submitted with, running it again, and changing its metadata. */
import * as v from "valibot";
import { isTerminal, Job, JobCancellation } from "../../shared/api/jobs.ts";
import { AppError } from "../../shared/api/errors.ts";
import { MetadataRequest, RerunRequest, SentRequest } from "../../shared/api/reruns.ts";
import { rerunSubmission } from "../../shared/protocols/rerun.ts";
import { LOCATION } from "../http/reply-headers.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { mayRead, requireScope } from "../middleware/authorize.ts";
import { JOB_ID, replaceMetadata, requireJob } from "../requests/job-access.ts";
import { requestContext, submitAs, SUBMISSION } from "../requests/submit.ts";
import { WAIT, waitAsPreferred } from "../requests/wait.ts";
import type { RouteSettings } from "./settings.ts";

const rerun = (description: string) => ({ description, schema: Job, headers: LOCATION });

export function jobRequestRoutes({ deadlineSeconds }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/jobs/{id}/request",
        operationId: "getJobRequest",
        tag: "Jobs",
        summary: "Read the request of a job as it was sent",
        description:
          "It is kept as long as the job, unless it sets `store: false`. All choices of a request have the same one, which is deleted with the first of them.",
        access: { scope: "jobs:read" },
        params: { id: JOB_ID },
        replies: { 200: { description: "The request.", schema: SentRequest } },
      },
      async (c, { params, json }) => {
        const { id } = await requireJob(c, params.id);
        const sent = await c.var.stores.sentRequest(id);
        if (sent === null) {
          const message = "The request of this job is not kept";
          throw new AppError("not_found", message);
        }
        const { endpoint, body } = sent;
        return json(200, { id, object: "job.request", endpoint, body });
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/jobs/{id}/rerun",
        operationId: "rerunJob",
        tag: "Jobs",
        summary: "Run a job again",
        description:
          "Submits a new job with the same input, options and seed: a `reproducible` model gives the same tokens. What the request left to defaults stays as it was then. The body has what the new job has instead, such as another `seed` or `steering`; `{}` or no body changes nothing. One choice of a request is run again as one job. The key also needs the scope `jobs:read`.",
        access: { scope: "jobs:write" },
        params: { id: JOB_ID },
        body: jsonBody(RerunRequest, { steering: { alpha: 0 } }, { mayBeAbsent: true }),
        uses: [...SUBMISSION, WAIT],
        replies: {
          200: rerun("The new job has ended."),
          202: rerun("The new job is queued or running."),
        },
      },
      async (c, { params, body, json }) => {
        // The output of the new job is that of a job that the key may not be allowed to read.
        requireScope(c, "jobs:read");
        const { stores } = c.var;
        const job = await requireJob(c, params.id);
        const request = { ...body, model: job.generation.model };
        const created = await submitAs(c, { request }, deadlineSeconds, (newJob) =>
          rerunSubmission(requestContext(c), job, body, newJob),
        );
        const record = await waitAsPreferred(c, created);
        c.header("Location", `/v1/jobs/${record.id}`);
        return json(isTerminal(record.state) ? 200 : 202, await stores.readJob(record));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/jobs/{id}",
        operationId: "updateJob",
        tag: "Jobs",
        summary: "Replace the metadata of a job",
        description: "In any state. Nothing else of a job changes.",
        access: { scope: "jobs:write" },
        params: { id: JOB_ID },
        body: jsonBody(MetadataRequest, { metadata: { reviewed: "yes" } }),
        replies: {
          200: {
            description: "The job, or only its state for a caller that may not read it.",
            schema: v.union([Job, JobCancellation]),
          },
        },
        errors: ["rate_limit_exceeded"],
      },
      async (c, { params, body, json }) => {
        const job = await requireJob(c, params.id);
        await replaceMetadata(c, [job.id], body.metadata ?? {});
        const { stores } = c.var;
        const after = await stores.readJob(await requireJob(c, job.id));
        const { id, object, state, cancel_requested } = after;
        return json(200, mayRead(c) ? after : { id, object, state, cancel_requested });
      },
    ),
  ];
}
