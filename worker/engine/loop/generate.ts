/** Runs one generation without a scheduler: for tests, golden vectors and benchmarks. */
import { Batch, type BatchOptions } from "./batch.ts";
import type { GenerateRequest, Step } from "./sequence.ts";

/** Yields the steps of a generation until it finishes. @throws the error of a failed step */
export async function* generate(
  request: GenerateRequest,
  options?: BatchOptions,
): AsyncGenerator<Exclude<Step, { error: Error }>, void, undefined> {
  const batch = new Batch(options);
  const sequence = batch.add(request);
  try {
    while (batch.size > 0) {
      await batch.ready();
      for (const step of await batch.step()) {
        if ("error" in step) throw step.error;
        yield step;
      }
    }
  } finally {
    if (sequence) batch.remove(sequence);
  }
}
