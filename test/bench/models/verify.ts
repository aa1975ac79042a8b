/** Whether an inflated model still computes what it was made from: logits over one text, token by token. */
import type { Decoder } from "../../../worker/model/decoder.ts";
import { loadDecoder } from "../../../worker/model/files.ts";
import { promptOf } from "../prompts.ts";
import { family, ROLES, type Family, type Role } from "./family.ts";

/** The largest |difference| of a logit, and the fraction of positions with the same likeliest token. */
export interface Agreement {
  readonly difference: number;
  readonly sameToken: number;
}

export async function agreement(
  a: Decoder,
  b: Decoder,
  ids: readonly number[],
): Promise<Agreement> {
  const [rowsA, rowsB] = [await logits(a, ids), await logits(b, ids)];
  let [difference, same] = [0, 0];
  for (const [i, rowA] of rowsA.entries()) {
    const rowB = rowsB[i]!;
    for (const [id, logit] of rowA.entries())
      difference = Math.max(difference, Math.abs(logit - rowB[id]!));
    if (likeliest(rowA) === likeliest(rowB)) same++;
  }
  return { difference, sameToken: same / ids.length };
}

/** Half of the text at once, the rest one by one: both ways through a graph. */
async function logits(decoder: Decoder, ids: readonly number[]): Promise<Float32Array[]> {
  const sequence = decoder.open();
  const half = ids.length >> 1;
  const rows = await decoder.score(sequence, ids.slice(0, half));
  for (const id of ids.slice(half)) rows.push(...(await decoder.decode([{ sequence, id }])));
  decoder.close(sequence);
  return rows;
}

const likeliest = (row: Float32Array) => row.indexOf(Math.max(...row));

export interface FamilyAgreement extends Agreement {
  readonly role: Role;
  readonly dtype: "fp32" | "int8";
}

/** Largest change of a logit that an inflated fp32 model may show. */
const TOLERANCE = 1e-3;
const TEXT_TOKENS = 64;

/** Compares every model with the demo family's fp32 one; throws if an fp32 model does not compute the same. */
export async function checkFamily(
  folders: Family,
  dtypes: readonly FamilyAgreement["dtype"][],
): Promise<FamilyAgreement[]> {
  const ids = promptOf(TEXT_TOKENS, 0);
  const agreements: FamilyAgreement[] = [];
  for (const role of ROLES) {
    const original = await loadDecoder(family("demo")[role], { dtype: "fp32", intraOpThreads: 0 });
    for (const dtype of dtypes) {
      const made = await loadDecoder(folders[role], { dtype, intraOpThreads: 0 });
      const { difference, sameToken } = await agreement(original, made, ids);
      if (dtype === "fp32" && difference > TOLERANCE) {
        throw new Error(`${role} was inflated wrongly: its logits differ by ${difference}`);
      }
      agreements.push({ role, dtype, difference, sameToken });
    }
  }
  return agreements;
}
