/** The error of a request that does not fit the context. It begins as OpenAI's does: clients recognise it by its words. */
import { AppError } from "./errors.ts";

/**
 * @param contextTokens the model's context length
 * @param problem one or more sentences
 * @param param the request's field that is too long
 */
export function contextLengthExceeded(
  contextTokens: number,
  problem: string,
  param: string,
): AppError {
  const message = `This model's maximum context length is ${contextTokens} tokens. ${problem}`;
  return new AppError("context_length_exceeded", message, { param });
}
