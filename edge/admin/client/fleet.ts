/** Workers and models: what they serve, their load, and stopping them. */
import type { Model, ModelList } from "../../../shared/api/models.ts";
import type {
  OperatorModel,
  OperatorModelList,
  OperatorWorker,
  OperatorWorkerList,
} from "../../../shared/api/operator.ts";
import type { Reply } from "../../../shared/api/schema.ts";
import { element } from "../../play/client/dom.ts";
import { bytes, decimal, integer, percent, since } from "./format.ts";
import type { Part } from "./part.ts";
import { actionColumn, badge, code, table, type Column } from "./table.ts";
import type { Viewer } from "./viewer.ts";

export const workersPart: Part = {
  id: "workers",
  isShownTo: (viewer) => viewer.may("operator"),
  load: async (viewer) => {
    const { data } = await viewer.get<Reply<typeof OperatorWorkerList>>("/v1/operator/workers");
    return [table("Workers", workerColumns(viewer), data, "No worker lives.")];
  },
};

type Engine = NonNullable<OperatorWorker["engine"]>;

function workerColumns(viewer: Viewer): Column<OperatorWorker>[] {
  const engine = (name: string, text: (engine: Engine) => string): Column<OperatorWorker> => ({
    name,
    cell: (worker) => (worker.engine === null ? "–" : text(worker.engine)),
    kind: "number",
  });
  return [
    { name: "Worker", cell: ({ id }) => code(id) },
    { name: "State", cell: stateOf },
    { name: "Serves", cell: ({ models }) => models.map(servedModel), kind: "text" },
    { name: "Slots", cell: ({ busy, slots }) => `${busy} of ${slots}`, kind: "number" },
    engine("Tokens/s", (load) => decimal(load.tokens_per_second)),
    engine("Accepted drafts", (load) => percent(load.acceptance)),
    engine("KV cache", (load) => used(load.kv_cache_bytes, load.kv_cache_bytes_max)),
    engine("Prefix cache", (load) => used(load.prefix_cache_bytes, load.prefix_cache_bytes_max)),
    engine("Prompts from it", (load) => percent(load.cached_share)),
    { name: "Version", cell: ({ version }) => version },
    { name: "Up for", cell: ({ started_at }) => since(started_at) },
    { name: "Heartbeat", cell: ({ heartbeat_at }) => `${since(heartbeat_at)} ago` },
    ...actionColumn<OperatorWorker>(true, ({ id, draining }) =>
      draining
        ? ""
        : viewer.button("Drain", `drain-${id}`, {
            subject: id,
            question: `Drain ${id}? It takes no more jobs until its process is started again.`,
            path: `/v1/operator/workers/${encodeURIComponent(id)}/drain`,
            done: `${id} takes no more jobs`,
          }),
    ),
  ];
}

const used = (now: number, max: number) => `${bytes(now)} of ${bytes(max)}`;

function stateOf({ draining, problem, busy, engine }: OperatorWorker) {
  if (problem !== null) return badge(problem, "bad");
  if (draining) return badge(busy === 0 ? "drained" : "draining", "bad");
  const waiting = engine?.waiting ?? 0;
  return waiting > 0 ? badge(`${waiting} wait for memory`, "bad") : badge("live", "good");
}

function servedModel({ id, remote_base, problem }: OperatorWorker["models"][number]) {
  const base = remote_base ? " (remote base)" : "";
  return element("div", {}, `${id}${base} `, ...(problem === null ? [] : [badge(problem, "bad")]));
}

export const modelsPart: Part = {
  id: "models",
  isShownTo: (viewer) => viewer.may("operator") || viewer.may("jobs:read"),
  load: async (viewer) => {
    const isOperator = viewer.may("operator");
    const { data } = isOperator
      ? await viewer.get<Reply<typeof OperatorModelList>>("/v1/operator/models")
      : await viewer.get<Reply<typeof ModelList>>("/v1/models");
    const columns: Column<Model | OperatorModel>[] = [
      { name: "Model", cell: ({ id }) => id },
      { name: "State", cell: modelState, kind: "text" },
      { name: "Workers", cell: ({ workers }) => integer(workers), kind: "number" },
      { name: "Slots", cell: ({ slots }) => integer(slots), kind: "number" },
      ...actionColumn<Model | OperatorModel>(isOperator, (model) => pause(viewer, model)),
    ];
    return [table("Models", columns, data, "No worker has served a model within a day.")];
  },
};

function modelState(model: Model | OperatorModel) {
  const { status, status_reason } = model;
  const since_ = "paused_at" in model && model.paused_at !== null ? model.paused_at : null;
  const text = status.replaceAll("_", " ") + (since_ === null ? "" : ` for ${since(since_)}`);
  return [
    badge(text, status === "available" ? "good" : "bad"),
    ...(status_reason === null ? [] : [` ${status_reason}`]),
  ];
}

function pause(viewer: Viewer, { id, status }: Pick<Model, "id" | "status">) {
  // The path may have slashes: they belong to the name.
  const path = `/v1/operator/models/${id.split("/").map(encodeURIComponent).join("/")}`;
  return status === "paused"
    ? viewer.button("Resume", `model-${id}`, {
        subject: id,
        question: `Resume ${id}? Its jobs start again.`,
        path: `${path}/resume`,
        done: `${id} is resumed`,
      })
    : viewer.button("Pause", `model-${id}`, {
        subject: id,
        question: `Pause ${id}? Its jobs wait until it is resumed; running ones go on.`,
        path: `${path}/pause`,
        done: `${id} is paused`,
      });
}
