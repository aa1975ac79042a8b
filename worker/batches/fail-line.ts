/** The result of a line that gets no job. */
import { AppError } from "../../shared/api/errors.ts";
import type { BatchRecord } from "../../shared/batches/record.ts";
import type { BatchStore } from "../../shared/batches/store.ts";
import type { InputLine } from "./input-lines.ts";
import { errorReply, lineJobId, readCustomId, toBatchResult } from "./line.ts";

/** The error of a line with which steps were lost (step-faults.ts). */
export const lineLost = () =>
  new AppError("internal", "The line was given up: workers were lost while they checked it");

/** @param batch the batch at this line */
export async function failLine(
  batches: Pick<BatchStore, "advance">,
  batch: BatchRecord,
  line: InputLine,
  error: AppError,
): Promise<void> {
  const number = batch.line + 1;
  const reply = errorReply(error, lineJobId(batch.id, number));
  const failed = toBatchResult(batch.id, number, readCustomId(line), reply);
  await batches.advance(batch, { offset: line.endOffset, line: number }, { failed });
}
