/** `npm run models -- pull ORG/NAME[@REVISION]`: gets the files of a model from the Hugging Face hub. */
import type { Dtype } from "../../worker/engine/model/graph-files.ts";
import { hubCache } from "../../worker/engine/model/hub-cache.ts";
import { HubError } from "../../worker/engine/hub/hub-error.ts";
import { hubFromEnv, type RemoteFile } from "../../worker/engine/hub/hub.ts";
import { pull, type PullOptions } from "../../worker/engine/hub/pull.ts";
import { UserError } from "../stack/user-error.ts";

const MIB = 2 ** 20;
const BAR_COLUMNS = 24;
/** A bar is drawn at most so often. */
const DRAW_MS = 100;

export async function pullModel(text: string, dtypes: readonly Dtype[]): Promise<void> {
  const bar = new ProgressBar();
  const cache = hubCache();
  const { name, commit, folder, files } = await pullOrExplain(text, {
    hub: hubFromEnv(),
    cache,
    dtypes,
    onPlan: (planned, bytes) => {
      console.log(`${text}: ${planned.length} files, ${Math.ceil(bytes / MIB)} MiB to get`);
    },
    onProgress: (file, bytes) => bar.show(file, bytes),
  });
  bar.end();
  console.log(`${folder}: ${files.length} files`);
  console.log(`in the manifest: "repo": "${name}@${commit}"`);
}

async function pullOrExplain(text: string, options: PullOptions) {
  try {
    return await pull(text, options);
  } catch (error) {
    throw error instanceof HubError ? new UserError(error.message) : error;
  }
}

/** One line for the file that arrives; without a terminal, one line for each file at its end. */
class ProgressBar {
  #drawnMs = 0;
  #isOpen = false;

  show({ path, size }: RemoteFile, bytes: number): void {
    const isDone = bytes === size;
    if (!process.stdout.isTTY) {
      if (isDone) console.log(`  ${path} (${Math.ceil(size / MIB)} MiB)`);
      return;
    }
    if (!isDone && performance.now() - this.#drawnMs < DRAW_MS) return;
    this.#drawnMs = performance.now();
    const filled = size === 0 ? BAR_COLUMNS : Math.floor((bytes / size) * BAR_COLUMNS);
    const bar = "#".repeat(filled).padEnd(BAR_COLUMNS, ".");
    process.stdout.write(
      `\r  [${bar}] ${Math.floor(bytes / MIB)} of ${Math.ceil(size / MIB)} MiB  ${path}\u001b[K`,
    );
    this.#isOpen = !isDone;
    if (isDone) process.stdout.write("\n");
  }

  end(): void {
    if (this.#isOpen) process.stdout.write("\n");
  }
}
