/** Checks that an inflated model has the logits of the model that it was made from, at every position of a text. */
import type { Decoder } from "../../../worker/engine/decoder/decoder.ts";
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import { benchPrompt } from "../prompts.ts";
import { family, ROLES, type Family, type Role } from "./family.ts";

/** Largest |difference| of a logit, and the fraction of positions with the same greedy token. */
export interface Agreement {
  readonly difference: number;
  readonly sameTokenShare: number;
}

/** Compares two models over the same token ids. */
async function compareModels(a: Decoder, b: Decoder, ids: readonly number[]): Promise<Agreement> {
  const [rowsA, rowsB] = [await logits(a, ids), await logits(b, ids)];
  let [difference, same] = [0, 0];
  for (const [i, rowA] of rowsA.entries()) {
    const rowB = rowsB[i]!;
    for (const [id, logit] of rowA.entries())
      difference = Math.max(difference, Math.abs(logit - rowB[id]!));
    if (greedyToken(rowA) === greedyToken(rowB)) same++;
  }
  return { difference, sameTokenShare: same / ids.length };
}

/** Logits after each token: the first half in one run, the rest one by one, because graphs treat the two differently. */
async function logits(decoder: Decoder, ids: readonly number[]): Promise<Float32Array[]> {
  const sequence = decoder.open();
  const half = ids.length >> 1;
  const rows = await decoder.score(sequence, ids.slice(0, half));
  for (const id of ids.slice(half)) rows.push(...(await decoder.decode([{ sequence, id }])));
  decoder.close(sequence);
  return rows;
}

const greedyToken = (row: Float32Array) => row.indexOf(Math.max(...row));

export interface FamilyAgreement extends Agreement {
  readonly role: Role;
  readonly dtype: "fp32" | "int8";
}

/** Largest allowed |difference| of a logit of an inflated fp32 model. */
const TOLERANCE = 1e-3;
const TEXT_TOKENS = 64;

/** Compares every model with the demo family's fp32 model. @throws Error if an fp32 model has other logits */
export async function checkFamily(
  folders: Family,
  dtypes: readonly FamilyAgreement["dtype"][],
): Promise<FamilyAgreement[]> {
  const ids = benchPrompt(TEXT_TOKENS, 0);
  const agreements: FamilyAgreement[] = [];
  for (const role of ROLES) {
    const original = await loadDecoder(family("demo")[role], { dtype: "fp32", intraOpThreads: 0 });
    for (const dtype of dtypes) {
      const model = await loadDecoder(folders[role], { dtype, intraOpThreads: 0 });
      const { difference, sameTokenShare } = await compareModels(original, model, ids);
      if (dtype === "fp32" && difference > TOLERANCE) {
        throw new Error(`The inflated ${role} is wrong: its logits differ by ${difference}`);
      }
      agreements.push({ role, dtype, difference, sameTokenShare });
    }
  }
  return agreements;
}
