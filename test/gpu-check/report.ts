/** Prints the machine, and the table of each stage. */
import { formatNumber, printLines } from "../bench/table.ts";
import type { Environment } from "./environment.ts";
import type { StageResult } from "./stage.ts";

export function printEnvironment(environment: Environment): void {
  const { machine, gpus, devices, vulkanDrivers, libraries } = environment;
  const list = (values: readonly string[]) => (values.length > 0 ? values.join(", ") : "none");
  console.log(
    `${machine.cores} cores of ${machine.cpu}, ${machine.memoryGiB} GiB, Node ${machine.node}`,
  );
  console.log(
    `cards: ${list(gpus)}\ndevices: ${list(devices)}\nVulkan drivers: ${list(vulkanDrivers)}`,
  );
  const found = Object.entries(libraries).map(([name, path]) => `${name} ${path ?? "not found"}`);
  console.log(`libraries: ${found.join(", ")}`);
}

/** All rows of a stage have the columns of the first complete one; a row with an error has only its first columns. */
export function printStage({ stage, provider, seconds, error, rows }: StageResult): void {
  console.log(
    `\n${stage}, ${provider} (${seconds} s)${error === null ? "" : `: FAILED: ${error}`}`,
  );
  const columns = Object.keys(rows.find((row) => !("error" in row)) ?? rows[0] ?? {});
  if (columns.length === 0) return;
  const cell = (value: string | number) =>
    typeof value === "string" || Number.isInteger(value) ? String(value) : formatNumber(value);
  printLines([
    columns,
    ...rows.map((row) =>
      "error" in row
        ? Object.values(row).map(cell)
        : columns.map((name) => (row[name] === undefined ? "" : cell(row[name]))),
    ),
  ]);
}
