/** `npm run models -- prepare …`: prepares model folders ahead of time, so that workers start faster. */
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { Command } from "commander";
import { DTYPES, graphFile, prepareDecoder } from "../../worker/engine/model/model-folder.ts";
import { errorText, UserError } from "../stack/user-error.ts";

const program = new Command("npm run models --")
  .description("prepare model folders")
  .helpCommand(false);

program
  .command("prepare")
  .description(
    "prepare the graphs of model folders, compare them with the originals and store them",
  )
  .argument("<folders...>", "folders with config.json and onnx/")
  .action(async (folders: string[]) => {
    for (const folder of folders) await prepare(folder);
  });

await program.parseAsync().catch((error: unknown) => {
  console.error(errorText(error));
  process.exitCode = 1;
});

async function prepare(folder: string): Promise<void> {
  const dtypes = DTYPES.filter((dtype) => existsSync(graphFile(folder, dtype)));
  const [first] = DTYPES;
  if (dtypes.length === 0) {
    throw new UserError(`${folder} has no graph such as ${graphFile(folder, first!)}`);
  }
  console.log(`${folder}\n${row("file", "variant", "single", "batched", "")}`);
  for (const dtype of dtypes) {
    const name = basename(graphFile(folder, dtype));
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
