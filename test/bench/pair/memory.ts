/** Loads the models of a pair, runs some tokens, and sends by how many MiB this process has grown. Arguments: size, dtype, form. */
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import { FOLDERS, randomAdapter, type Dtype, type MemoryForm, type Size } from "./models.ts";

const [size, dtype, form] = process.argv.slice(2) as [Size, Dtype, MemoryForm];
const folder = FOLDERS[size];
const load = { dtype, intraOpThreads: 1 };
const startBytes = process.memoryUsage.rss();
const decoders =
  form === "adapter"
    ? [await loadDecoder(folder, { ...load, adapters: [randomAdapter(folder)] })]
    : [await loadDecoder(folder, load)];
if (form === "two models") decoders.push(await loadDecoder(folder, load));
for (const decoder of decoders) await decoder.score(decoder.open(), [1, 2, 3, 4]);
process.send!(Math.round((process.memoryUsage.rss() - startBytes) / 2 ** 20));
process.disconnect();
