/** Measures what exact attention needs of a graph, and whether a token's logits depend on the run that computes them. */
import type { Tensor, InferenceSession } from "../onnxruntime/onnxruntime.ts";
import type { Decoder } from "../decoder/decoder.ts";
import type { GraphIo } from "../decoder/graph-io.ts";
import { zeroCaches } from "./shape-values.ts";

/** Token ids of a probe: any, but the same ones everywhere. */
function probeIds(count: number, logitsWidth: number | null, salt: number): number[] {
  const vocabulary = Math.min(logitsWidth ?? 8, 2 ** 15);
  return Array.from({ length: count }, (_, i) => 1 + (((i + salt) * 7919) % (vocabulary - 1)));
}

const VALUE_TOKENS = 48;

/**
 * The largest magnitude of the values of attention in a run with some tokens.
 * @param newKvOutputs `past_key_values.*` input -> output with the new tokens' keys or values
 * @returns by output
 */
export async function measureValues(
  session: InferenceSession,
  io: GraphIo,
  newKvOutputs: ReadonlyMap<string, string>,
): Promise<Map<string, number>> {
  const values = [...newKvOutputs].filter(([past]) => past.endsWith(".value"));
  const outputs = values.map(([, output]) => output);
  const rows = [{ ids: probeIds(VALUE_TOKENS, io.logitsWidth, 0), pastTokens: 0 }];
  const feeds = { ...zeroCaches(io, { batch: 1, past: 1 }), ...io.feeds(rows, 1) };
  const results = await session.run(feeds, outputs);
  return new Map(
    outputs.map((output) => {
      const data = (results[output] as Tensor).data as Float32Array;
      return [output, data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)];
    }),
  );
}

const PROMPT_TOKENS = 7;
const DECODED_TOKENS = 24;
const DRAFT_TOKENS = 5;
/** More than one block of a cache, so that it grows. */
const NEIGHBOUR_TOKENS = 70;

/**
 * Whether a token has exactly the same logits if it is decoded alone, beside other sequences, with others in one run, and both; also
 * after a prompt in other chunks. The decoder must have no open sequences.
 */
export async function hasExactRows(decoder: Decoder): Promise<boolean> {
  const ids = (count: number, salt: number) => probeIds(count, decoder.logitsWidth, salt);
  const [prompt, rest] = [ids(PROMPT_TOKENS, 1), ids(DECODED_TOKENS, 30)];
  const alone: Float32Array[] = [];
  await withSequence(decoder, prompt, async (sequence) => {
    for (const id of rest) alone.push((await decoder.decode([{ sequence, id }]))[0]!.slice());
  });
  let isExact = true;
  const compare = (index: number, logits: Float32Array) => {
    isExact &&= alone[index]!.every((logit, id) => Object.is(logit, logits[id]));
  };
  await withSequence(decoder, prompt.slice(0, 3), async (sequence) => {
    await decoder.prefill(sequence, prompt.slice(3));
    for (let start = 0; start < rest.length; start += DRAFT_TOKENS) {
      const rows = await decoder.score(sequence, rest.slice(start, start + DRAFT_TOKENS));
      for (const [i, logits] of rows.entries()) compare(start + i, logits);
    }
  });
  await withSequence(decoder, ids(NEIGHBOUR_TOKENS, 60), async (neighbour) => {
    await withSequence(decoder, prompt, async (sequence) => {
      for (const [i, id] of rest.entries()) {
        const other = { sequence: neighbour, id: ids(1, 200 + i)[0]! };
        const [, logits] = await decoder.decode([other, { sequence, id }]);
        compare(i, logits!);
      }
    });
  });
  const { scoreAll } = decoder;
  if (!scoreAll) return isExact;
  await withSequence(decoder, ids(NEIGHBOUR_TOKENS, 60), async (neighbour) => {
    await withSequence(decoder, prompt, async (sequence) => {
      for (let start = 0; start < rest.length; start += DRAFT_TOKENS) {
        const other = { sequence: neighbour, ids: ids(DRAFT_TOKENS - 2, 200 + start) };
        const drafted = { sequence, ids: rest.slice(start, start + DRAFT_TOKENS) };
        const [, rows] = await scoreAll([other, drafted]);
        for (const [i, logits] of rows!.entries()) compare(start + i, logits);
      }
    });
  });
  return isExact;
}

async function withSequence(
  decoder: Decoder,
  prompt: readonly number[],
  use: (sequence: unknown) => Promise<void>,
): Promise<void> {
  const sequence = decoder.open();
  await decoder.prefill(sequence, prompt);
  await use(sequence);
  decoder.close(sequence);
}
