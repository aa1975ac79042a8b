/**
 * The places of adapters in matrices that hold several of them side by side. They are such that an adapter gives the same bits whatever others are
 * there: a product adds the ranks of a row in blocks of 256 (measured with onnxruntime on x64), so no adapter of at most 256 ranks
 * crosses the border of a block, and a larger one begins at one. Between the borders others add zeros. Columns are computed in groups
 * of up to 16, and each group has those of one adapter. What is left between them is zero.
 */
import type { AdapterSizes, ModuleSizes } from "./adapter-targets.ts";

const SUM_BLOCK = 256;
const COLUMN_GROUP = 16;

export interface Columns {
  /** The first column of each block. */
  readonly starts: readonly number[];
  readonly width: number;
}

export function columnsOf(
  blocks: readonly { readonly module: Pick<ModuleSizes, "rank"> }[],
): Columns {
  let end = 0;
  const starts = blocks.map(({ module: { rank } }) => {
    const crosses = (end % SUM_BLOCK) + rank > SUM_BLOCK;
    const start = roundUp(end, crosses ? SUM_BLOCK : COLUMN_GROUP);
    end = roundUp(start + rank, COLUMN_GROUP);
    return start;
  });
  return { starts, width: end };
}

/** Numbers in the matrices of a graph's adapters side by side: more than in their files, by the columns of zeros. */
export function stackedValues(adapters: readonly AdapterSizes[]): number {
  const modules = adapters.flatMap((sizes) => [...sizes]);
  const byPath = Map.groupBy(modules, ([path]) => path).values();
  return Array.from(byPath, (blocks) => {
    const [[, { inputs, outputs }]] = blocks as [(typeof blocks)[number]];
    const { width } = columnsOf(blocks.map(([, module]) => ({ module })));
    return width * (inputs + outputs);
  }).reduce((sum, values) => sum + values, 0);
}

const roundUp = (number: number, step: number) => Math.ceil(number / step) * step;
