/** `/v1/operator`: workers, models and running jobs, and what the operator does with them. */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { JobCancellation } from "../../shared/api/jobs.ts";
import {
  OperatorJobList,
  OperatorModel,
  OperatorModelList,
  OperatorWorker,
  OperatorWorkerList,
  type OperatorJob,
} from "../../shared/api/operator.ts";
import { field } from "../../shared/api/schema.ts";
import { toJobId } from "../../shared/jobs/ids.ts";
import { phaseOf, seconds } from "../../shared/jobs/phase.ts";
import type { RunningJob } from "../../shared/jobs/running-jobs.ts";
import { jobNotFound } from "../../shared/submission/submission.ts";
import type { LiveWorker } from "../../shared/workers/registry.ts";
import type { AppContext } from "../http/context.ts";
import { route, type Route } from "../http/route.ts";
import {
  allPaused,
  allRunningJobs,
  allWorkers,
  drainOnAll,
  setPaused,
  shardOfJob,
} from "../requests/all-shards.ts";
import { JOB_ID } from "../requests/job-access.ts";
import { modelStatus, slotsOf } from "./models.ts";

const access = { scope: "operator" } as const;

const WORKER_ID = field(v.string(), "The id of a live worker.", {
  examples: ["worker_0198c2f4e5b07a31"],
});
const MODEL_ID = field(v.string(), "The name of a model. It may contain slashes.", {
  examples: ["atlas-qa"],
});
const MODEL = { 200: { description: "The model.", schema: OperatorModel } };

export function operatorFleetRoutes(): Route[] {
  return [...workerRoutes(), ...pauseRoutes(), ...runningJobRoutes()];
}

function workerRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/operator/workers",
        operationId: "listWorkers",
        tag: "Operator",
        summary: "List the live workers that generate",
        description: "A worker that has sent no heartbeat for 10 s is not listed.",
        access,
        replies: { 200: { description: "The workers.", schema: OperatorWorkerList } },
      },
      async (c, { json }) => {
        const workers = await allWorkers(c.var.shards);
        return json(200, { object: "list", data: workers.map(toOperatorWorker) });
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/operator/workers/{id}/drain",
        operationId: "drainWorker",
        tag: "Operator",
        summary: "Drain a worker",
        description:
          "From now on it takes no job; those that it runs go on to their ends. It stays so until its process ends: the process that is started instead has another id.",
        access,
        params: { id: WORKER_ID },
        replies: { 200: { description: "The worker.", schema: OperatorWorker } },
      },
      async (c, { params, json }) => {
        const isDrained = await drainOnAll(c.var.shards, params.id);
        const worker = (await allWorkers(c.var.shards)).find(({ id }) => id === params.id);
        if (!isDrained || worker === undefined) {
          throw new AppError("not_found", "There is no such live worker");
        }
        return json(200, toOperatorWorker(worker));
      },
    ),
  ];
}

function pauseRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/operator/models",
        operationId: "listOperatorModels",
        tag: "Operator",
        summary: "List the models, and which of them are paused",
        description:
          "The models that a worker serves now, those that one has served within the last day, and those that are paused.",
        access,
        replies: { 200: { description: "The models.", schema: OperatorModelList } },
      },
      async (c, { json }) => {
        const { stores, shards } = c.var;
        const [models, paused] = await Promise.all([stores.fleet.models(), allPaused(shards)]);
        const ids = new Set([...models.map(({ card }) => card.id), ...paused.keys()]);
        const data = [...ids]
          .toSorted()
          .map((id) =>
            toOperatorModel(id, models.find(({ card }) => card.id === id)?.workers ?? [], paused),
          );
        return json(200, { object: "list", data });
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/operator/models/{id}/pause",
        paramPatterns: { id: ".+" },
        operationId: "pauseModel",
        tag: "Operator",
        summary: "Pause a model",
        description:
          "From now on no job that needs the model starts, nor is one taken over from a lost worker; running ones go on. Requests for it are accepted, and their jobs wait (`queue.reason` is `paused`) until the model is resumed or their deadline passes.",
        access,
        params: { id: MODEL_ID },
        replies: MODEL,
        errors: ["model_not_found"],
      },
      async (c, { params: { id }, json }) => {
        await requireKnownModel(c, id);
        await setPaused(c.var.shards, id, true);
        return json(200, await readOperatorModel(c, id));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/operator/models/{id}/resume",
        paramPatterns: { id: ".+" },
        operationId: "resumeModel",
        tag: "Operator",
        summary: "Resume a model",
        description: "Workers take its jobs again, within a second.",
        access,
        params: { id: MODEL_ID },
        replies: MODEL,
        errors: ["model_not_found"],
      },
      async (c, { params: { id }, json }) => {
        await requireKnownModel(c, id);
        await setPaused(c.var.shards, id, false);
        return json(200, await readOperatorModel(c, id));
      },
    ),
  ];
}

function runningJobRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/operator/jobs",
        operationId: "listRunningJobs",
        tag: "Operator",
        summary: "List the running jobs of all tenants",
        description: "At most 200 of them, without their texts and their metadata.",
        access,
        replies: { 200: { description: "The jobs.", schema: OperatorJobList } },
      },
      async (c, { json }) => {
        const { jobs, more } = await allRunningJobs(c.var.shards);
        const data = jobs.map(toOperatorJob).toSorted((a, b) => a.created_at - b.created_at);
        return json(200, { object: "list", data, more_jobs: more });
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/operator/jobs/{id}/cancel",
        operationId: "cancelOperatorJob",
        tag: "Operator",
        summary: "Cancel a job of any tenant",
        description: "As its tenant cancels it; the reply shows no text.",
        access,
        params: { id: JOB_ID },
        replies: { 200: { description: "The job's state.", schema: JobCancellation } },
      },
      async (c, { params, json }) => {
        const id = toJobId(params.id);
        const stores = await shardOfJob(c.var.shards, id);
        if (stores === null) throw jobNotFound();
        const job = await stores.cancelJob(id);
        if (job === null) throw jobNotFound();
        const { object, state, cancel_requested } = job;
        return json(200, { id, object, state, cancel_requested });
      },
    ),
  ];
}

function toOperatorWorker(worker: LiveWorker): OperatorWorker {
  const { throughput, engine, models } = worker;
  return {
    id: worker.id,
    object: "worker",
    version: worker.version,
    started_at: worker.sinceMs / 1000,
    heartbeat_at: worker.heartbeatMs / 1000,
    slots: throughput.slots,
    busy: throughput.busy,
    draining: worker.isDraining,
    problem: worker.problem ?? null,
    tokens_per_second: throughput.tokensPerSecond,
    engine:
      engine === undefined
        ? null
        : {
            tokens_per_second: engine.tokensPerSecond,
            acceptance: engine.acceptance,
            cached_share: engine.cachedShare,
            waiting: engine.waiting,
            kv_cache_bytes: engine.cacheBytes,
            kv_cache_bytes_max: engine.cacheBytesMax,
            prefix_cache_bytes: engine.prefixBytes,
            prefix_cache_bytes_max: engine.prefixBytesMax,
          },
    models: models.map(({ id, fingerprint, reproducible, isRemote = false, away = null }) => ({
      id,
      fingerprint,
      reproducible,
      remote_base: isRemote,
      problem: away,
    })),
  };
}

function toOperatorModel(
  id: string,
  workers: readonly LiveWorker[],
  paused: ReadonlyMap<string, number>,
): OperatorModel {
  return {
    id,
    object: "operator_model",
    ...modelStatus(id, workers, paused),
    workers: workers.length,
    slots: slotsOf(workers),
    paused_at: seconds(paused.get(id) ?? null),
  };
}

async function readOperatorModel(c: AppContext, id: string): Promise<OperatorModel> {
  const { stores, shards } = c.var;
  const [workers, paused] = await Promise.all([stores.fleet.workersOf(id), allPaused(shards)]);
  return toOperatorModel(id, workers, paused);
}

/** @throws AppError model_not_found unless the model is known or paused */
async function requireKnownModel(c: AppContext, id: string): Promise<void> {
  const { stores, shards } = c.var;
  if ((await stores.fleet.model(id)) !== null || (await allPaused(shards)).has(id)) return;
  throw new AppError("model_not_found", `There is no model ${id}`, { param: "id" });
}

function toOperatorJob(job: RunningJob): OperatorJob {
  return {
    id: job.id,
    object: "job",
    tenant: job.tenant,
    model: job.model,
    state: job.state,
    phase: phaseOf(job),
    worker: job.workerId,
    attempts: job.attempt,
    tokens: job.tokens,
    cancel_requested: job.cancelRequested === "1",
    created_at: seconds(job.createdAtMs),
    started_at: seconds(job.startedAtMs),
  };
}
