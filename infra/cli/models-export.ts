/** `npm run models -- export`: makes an ONNX folder of a Hugging Face model, with Python in an environment of its own. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { installPythonTools } from "../stack/python-tools.ts";
import { UserError } from "../stack/user-error.ts";

const FOLDER = join(import.meta.dirname, "../export");

export const EXPORT_DTYPES = ["fp32", "fp16", "int8", "q4"] as const;

export interface ExportOptions {
  readonly adapter?: string;
  readonly dtype: readonly (typeof EXPORT_DTYPES)[number][];
  readonly prompts?: string;
}

/** @throws UserError if the environment cannot be made, or the export fails; export.py has printed why */
export function exportModel(source: string, folder: string, options: ExportOptions): void {
  const { adapter, dtype, prompts } = options;
  const programs = installPythonTools("optimum-onnx-0.1.0-onnx-ir-1.1.0", [
    "-r",
    join(FOLDER, "requirements.txt"),
  ]);
  const args = [
    join(FOLDER, "export.py"),
    source,
    folder,
    ...(adapter === undefined ? [] : ["--adapter", adapter]),
    ...(prompts === undefined ? [] : ["--prompts", prompts]),
    "--dtype",
    ...dtype,
  ];
  const { status } = spawnSync(join(programs, "python"), args, { stdio: "inherit" });
  if (status !== 0) throw new UserError(`${source} was not exported`);
}
