/**
 * Prompts that run together, so that the weights are read once. A run computes as many tokens of each prompt as of the longest one,
 * so only prompts of about the same length do, and only as many tokens as a long prompt's chunk has: the others' tokens wait for them.
 */
import { hostOf } from "../decoder/decoder.ts";
import { BLOCK_TOKENS } from "../decoder/prefix-cache.ts";
import type { Sequence } from "./sequence.ts";
import { PREFILL_CHUNK_TOKENS } from "./step-budget.ts";

/**
 * Padding that another prompt may add. Reading the weights takes as long as about 16 tokens of a prompt (98M parameters in fp32), and
 * half as many in int8.
 */
const PADDING_TOKENS_MAX = 8;

/** Tokens of the model with the most of them. */
export const tokensToRun = ({ modelStates }: Sequence) =>
  Math.max(...modelStates.map(({ pendingTokens }) => pendingTokens.length));

/**
 * @param others in the order in which they would run
 * @param restore shortens a prompt by what is cached of it
 * @returns the first one and those that run with it
 */
export function promptGroup(
  first: Sequence,
  others: readonly Sequence[],
  restore: (sequence: Sequence) => void,
): Sequence[] {
  const group = [first];
  const fits = (sequence: Sequence) => {
    const lengths = [...group, sequence].map(tokensToRun);
    const computed = lengths.length * Math.max(...lengths);
    const padding = computed - lengths.reduce((sum, length) => sum + length, 0);
    return computed <= PREFILL_CHUNK_TOKENS && padding <= PADDING_TOKENS_MAX * group.length;
  };
  for (const sequence of others) {
    const canJoin =
      baseOf(sequence) === baseOf(first) &&
      fits(sequence) &&
      !group.some((member) => sharesPrefix(member, sequence));
    if (!canJoin) continue;
    restore(sequence);
    if (fits(sequence)) group.push(sequence);
  }
  return group;
}

const baseOf = ({ modelStates: [base] }: Sequence) => hostOf(base!.decoder);

/** Whether one prompt would run what the other one could take from the prefix cache afterwards. */
function sharesPrefix(one: Sequence, other: Sequence): boolean {
  const { tenant } = one.request;
  if (tenant === undefined || tenant !== other.request.tenant) return false;
  const startOf = ({ modelStates: [base] }: Sequence) => base!.pendingTokens.slice(0, BLOCK_TOKENS);
  const [start, otherStart] = [startOf(one), startOf(other)];
  return start.length === BLOCK_TOKENS && start.every((id, i) => id === otherStart[i]);
}
