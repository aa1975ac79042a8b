/** Golden cases (test/vectors) of six architectures, and of one with `GroupQueryAttention`. */
import { join } from "node:path";
import { replay, type ModelFolders } from "../../vectors/golden.ts";
import { errorLine, type Row, type StageInput } from "../stage.ts";

const VECTORS = join(import.meta.dirname, "../../vectors");
const ARCHITECTURES = ["llama", "qwen2", "qwen3", "gpt2", "gemma3_text", "deepseek_v3"];
const GQA: ModelFolders = {
  base: join(VECTORS, "gqa/base"),
  expert: join(VECTORS, "gqa/expert"),
  antiexpert: join(VECTORS, "gqa/antiexpert"),
};
const TOLERANCE = 1e-3;

export async function* golden(input: StageInput): AsyncGenerator<Row, void, undefined> {
  for (const architecture of ARCHITECTURES) {
    yield await check(architecture, join(VECTORS, architecture), input);
  }
  // Its graphs have the weights of qwen3.
  yield await check("qwen3, GroupQueryAttention", join(VECTORS, "qwen3"), input, GQA);
}

function verdict(areTokensSame: boolean, difference: number): string {
  if (!areTokensSame) return "FAILED";
  return difference <= TOLERANCE ? "ok" : `logits differ by more than ${TOLERANCE}`;
}

async function check(
  architecture: string,
  folder: string,
  { provider, isLate }: StageInput,
  folders?: ModelFolders,
): Promise<Row> {
  if (isLate()) return { architecture, error: "left out: the time is used up" };
  try {
    const results = await replay(folder, folders, { executionProvider: provider });
    const same = results.filter(({ expected, tokens }) =>
      expected.every((token, i) => token === tokens[i]),
    );
    const difference = Math.max(
      ...results.flatMap((one) => [one.logitsDifference ?? 0, one.scoreDifference ?? 0]),
    );
    return {
      architecture,
      cases: results.length,
      "same tokens": same.length,
      "largest difference of a logit": difference.toExponential(1),
      verdict: verdict(same.length === results.length, difference),
    };
  } catch (error) {
    return { architecture, error: errorLine(error) };
  }
}
