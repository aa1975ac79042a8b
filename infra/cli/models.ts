/** `npm run models -- …`: gets and exports models, checks a manifest, and prepares model folders ahead of time, so that workers start faster. */
import { basename, join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { DTYPES, dtypesIn, type Dtype } from "../../worker/engine/model/graph-files.ts";
import { prepareDecoder } from "../../worker/engine/model/model-folder.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import { check, type CheckOptions } from "./models-check.ts";
import { EXPORT_DTYPES, exportModel, type ExportOptions } from "./models-export.ts";
import { pullModel } from "./models-pull.ts";

const program = new Command("npm run models --")
  .description("get, export, check and prepare models")
  .helpCommand(false);

program
  .command("prepare")
  .description(
    "prepare the graphs of model folders, compare them with the originals and store them",
  )
  .argument("<folders...>", "model folders")
  .action(async (folders: string[]) => {
    for (const folder of folders) await prepare(folder);
  });

program
  .command("pull")
  .description("get the files of a model from the Hugging Face hub into its cache")
  .argument("<repository>", "ORG/NAME, or ORG/NAME@REVISION with a branch, a tag or a commit")
  .addOption(
    new Option("--dtype <formats...>", "weight formats to get").choices(DTYPES).default(["fp32"]),
  )
  .addHelpText(
    "after",
    "\nHF_ENDPOINT names a mirror, HF_TOKEN a token for private and gated repositories, and\nHF_HUB_CACHE or HF_HOME the cache. A transfer that was broken off goes on.",
  )
  .action((repository: string, { dtype }: { dtype: Dtype[] }) => pullModel(repository, dtype));

program
  .command("export")
  .description(
    "make an ONNX folder of a Hugging Face model, check it against PyTorch, and prepare it",
  )
  .argument("<source>", "ORG/NAME, ORG/NAME@REVISION, or a folder with safetensors")
  .argument("<folder>", "folder to write")
  .option("--adapter <source>", "a LoRA adapter as peft saves it, to merge into the weights")
  .addOption(
    new Option("--dtype <formats...>", "weight formats to write")
      .choices(EXPORT_DTYPES)
      .default(["fp32"]),
  )
  .option("--prompts <file>", "prompts to compare the logits with, one in each line")
  .addHelpText(
    "after",
    "\nNeeds Python 3.10 or newer. The first run installs PyTorch and optimum-onnx into .trimtab/ (1.3 GB, or\nseveral GB if the registry has PyTorch only with CUDA).",
  )
  .action(async (source: string, folder: string, options: ExportOptions) => {
    exportModel(source, folder, options);
    await prepare(folder);
  });

program
  .command("check")
  .description("say what a worker would refuse or run slowly, before it loads anything")
  .argument("<manifest>", "JSON file with the ensembles, as in TRIMTAB_MODELS")
  .option("--json <file>", "write the report to a file too")
  .option("--memory-mib <number>", "memory of the worker's machine, if it is another one", toMib)
  .addHelpText(
    "after",
    "\nThe exit code is 1 if a worker would not start. SLOTS, KV_CACHE_MIB and\nPREFIX_CACHE_MIB count as they do for a worker.",
  )
  .action(async (manifest: string, options: CheckOptions) => {
    if (!(await check(manifest, options))) process.exitCode = 1;
  });

function toMib(value: string): number {
  const mib = Number(value);
  if (Number.isInteger(mib) && mib > 0) return mib;
  throw new InvalidArgumentError("Expected a whole number of MiB.");
}

await program.parseAsync().catch((error: unknown) => {
  console.error(errorText(error));
  process.exitCode = 1;
});

async function prepare(folder: string): Promise<void> {
  const graphs = dtypesIn(folder);
  if (graphs.length === 0) {
    throw new UserError(`${folder} has no graph such as ${join(folder, "onnx/model.onnx")}`);
  }
  console.log(`${folder}\n${row("file", "variant", "single", "batched", "")}`);
  for (const { dtype, file } of graphs) {
    const name = basename(file);
    const options = { dtype, intraOpThreads: 0 };
    const prepared = await prepareDecoder(folder, options).catch((error: unknown) => {
      throw new UserError(error instanceof Error ? error.message : String(error));
    });
    const { variant, logitsChange, fallbackReason } = prepared;
    const single = logitsChange?.single?.toExponential(1) ?? "";
    const batched = logitsChange?.batched?.toExponential(1) ?? "";
    console.log(row(name, variant, single, batched, fallbackReason ?? ""));
  }
}

/**
 * One line of the table. `single` and `batched` are the largest relative change of a logit, with one sequence and with two in
 * one run (worker/engine/graph/probe.ts).
 */
function row(
  file: string,
  variant: string,
  single: string,
  batched: string,
  reason: string,
): string {
  const columns = [
    file.padEnd(22),
    variant.padEnd(10),
    single.padEnd(9),
    batched.padEnd(10),
    reason,
  ];
  return `  ${columns.join("")}`.trimEnd();
}
