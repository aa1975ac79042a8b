/** `npm run models -- …`: model folders from the command line. */
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { Command } from "commander";
import { DTYPES, graphFile, prepareDecoder } from "../worker/model/files.ts";
import { explain, Problem } from "./stack/problem.ts";

const program = new Command("npm run models --").description("model folders").helpCommand(false);

program
  .command("prepare")
  .description("prepare the graphs of model folders, compare them with the originals and keep them")
  .argument("<folders...>", "folders with config.json and onnx/")
  .action(async (folders: string[]) => {
    for (const folder of folders) await prepare(folder);
  });

await program.parseAsync().catch((error: unknown) => {
  console.error(explain(error));
  process.exitCode = 1;
});

async function prepare(folder: string): Promise<void> {
  const dtypes = DTYPES.filter((dtype) => existsSync(graphFile(folder, dtype)));
  const [first] = DTYPES;
  if (dtypes.length === 0) {
    throw new Problem(`${folder} has no graph: ${graphFile(folder, first!)} would be one`);
  }
  console.log(`${folder}\n${row("file", "form", "alone", "together", "")}`);
  for (const dtype of dtypes) {
    const name = basename(graphFile(folder, dtype));
    const { form, change, why } = await prepareDecoder(folder, { dtype, intraOpThreads: 0 }).catch(
      (error: unknown) => {
        throw new Problem(error instanceof Error ? error.message : String(error));
      },
    );
    const [alone, together] = [change?.alone, change?.together].map((of) => of?.toExponential(1));
    console.log(row(name, form, alone ?? "", together ?? "", why ?? ""));
  }
}

/** Alone and together: the largest change of a logit, relative to the spread of its row (worker/model/probe.ts). */
function row(file: string, form: string, alone: string, together: string, why: string): string {
  const columns = [file.padEnd(22), form.padEnd(10), alone.padEnd(9), together.padEnd(10), why];
  return `  ${columns.join("")}`.trimEnd();
}
