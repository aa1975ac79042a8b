/** The table of `npm run eval` as lm-evaluation-harness measures it, with its own filters and its exact match. */
import { DEMO_TASKS, TASK_MODELS } from "../task.ts";
import type { LmEvalRun } from "./lm-eval.ts";

export interface TableRow {
  readonly task: string;
  readonly system: string;
  /** In percent. */
  readonly exact: number;
  readonly questions: number;
}

/** @param run measures one of the manifest's ensembles on one task */
export async function measureTable(
  run: (model: string, task: string) => Promise<LmEvalRun>,
): Promise<TableRow[]> {
  const rows: TableRow[] = [];
  for (const task of DEMO_TASKS) {
    const { expert, tuned } = TASK_MODELS[task];
    const systems = [
      ["base alone", "base"],
      ["small expert alone", expert],
      ["proxy-tuned, alpha 1", task],
      ["base tuned directly", tuned],
    ] as const;
    const name = `trimtab_${task.replace("-", "_")}_generate`;
    for (const [system, model] of systems) {
      const { metrics, samples } = await run(model, name);
      const [, share = NaN] =
        Object.entries(metrics[name]!).find(([key]) => key.startsWith("exact_match,")) ?? [];
      rows.push({ task, system, exact: 100 * share, questions: samples.length });
    }
  }
  return rows;
}

export function printTable(rows: readonly TableRow[]): void {
  if (rows.length === 0) return;
  console.log("\nexact_match of lm_eval in %");
  console.table(rows);
}
