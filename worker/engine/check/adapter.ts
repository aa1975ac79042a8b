/** Checks the adapter of an expert, and whether its antiexpert's graph can hold it. */
import { statSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionProvider } from "../../engine-client/messages.ts";
import { findTargets, type AdaptedGraph } from "../graph/adapter-targets.ts";
import { inlineCacheBranch } from "../graph/cache-branch.ts";
import { inspectGraph } from "../graph/inspect.ts";
import { scaledRows } from "../graph/prepare.ts";
import { checkHoldsAdapters } from "../model/graph-form.ts";
import { ADAPTER_FILES, readAdapter } from "../model/lora-adapter.ts";
import type { AdapterReport, GraphReport } from "./report.ts";

/** @throws Error with the reason if a worker would refuse it */
export function checkAdapter(
  folder: string,
  { file, form }: GraphReport,
  executionProvider?: ExecutionProvider,
): AdapterReport {
  const { modules, config } = readAdapter(folder);
  try {
    checkHoldsAdapters(form, executionProvider);
    findTargets(preparedGraph(file), [modules]);
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
  const ranks = Array.from(modules.values(), ({ rank }) => rank);
  return {
    folder,
    modules: modules.size,
    rankMax: Math.max(...ranks),
    sizes: Object.fromEntries(
      Array.from(modules, ([path, { rank, inputs, outputs }]) => [path, { rank, inputs, outputs }]),
    ),
    bytes: statSync(join(folder, ADAPTER_FILES.weights)).size,
    trainedOn: config.base_model_name_or_path,
  };
}

/** The products of a graph and their weights as in its prepared form, for which weights would have to be read. */
function preparedGraph(file: string): AdaptedGraph {
  const { nodes, weightInfos: weights, opset } = inspectGraph(file);
  return { nodes: scaledRows(inlineCacheBranch(nodes), opset), weights, opset };
}
