/** Decoders whose graphs hold adapters, and their logits. */
import { join } from "node:path";
import { AdapterDecoder } from "../../worker/engine/decoder/adapter-decoder.ts";
import type { Decoder } from "../../worker/engine/decoder/decoder.ts";
import type { ExternalCacheDecoder } from "../../worker/engine/decoder/external-cache-decoder.ts";
import { readAdapter } from "../../worker/engine/model/lora-adapter.ts";
import { loadDecoder } from "../../worker/engine/model/model-folder.ts";
import { adapterFolder, mergedFolder, type AdapterOptions } from "./adapters.ts";
import { VECTORS } from "./model-folder.ts";

export const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;

/** An antiexpert of test/vectors that holds adapters, the views of these, and the models into which each is merged. */
export async function loadAdapters(name: string, adapters: readonly AdapterOptions[]) {
  const source = join(VECTORS, name, "antiexpert");
  const folders = adapters.map(adapterFolder);
  const modules = folders.map((folder) => readAdapter(folder).modules);
  const host = (await loadDecoder(source, {
    ...OPTIONS,
    adapters: modules,
  })) as ExternalCacheDecoder;
  return {
    host: host as Decoder,
    plain: await loadDecoder(source, OPTIONS),
    adapted: folders.map((_, i) => new AdapterDecoder(host, i) as Decoder),
    merged: await Promise.all(
      folders.map((folder) => loadDecoder(mergedFolder(source, folder), OPTIONS)),
    ),
  };
}

/** The adapters of an antiexpert of test/vectors that holds all of them. */
export async function loadViews(adapters: readonly AdapterOptions[]): Promise<Decoder[]> {
  const modules = adapters.map((options) => readAdapter(adapterFolder(options)).modules);
  const host = await loadDecoder(join(VECTORS, "llama/antiexpert"), {
    ...OPTIONS,
    adapters: modules,
  });
  return modules.map((_, i) => new AdapterDecoder(host as ExternalCacheDecoder, i) as Decoder);
}

/** Logits of a prompt, decoded tokens and several tokens of one run. */
export async function logitsOf(decoder: Decoder): Promise<Float32Array[]> {
  const sequence = decoder.open();
  await decoder.prefill(sequence, [1, 2, 3, 4, 5]);
  const logits: Float32Array[] = [];
  for (const id of [6, 7]) logits.push(...(await decoder.decode([{ sequence, id }])));
  logits.push(...(await decoder.score(sequence, [3, 2, 1])));
  decoder.close(sequence);
  return logits;
}
