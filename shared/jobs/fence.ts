/**
 * The fence of an attempt. A worker sends it with every write of a job, and a worker that has lost the job to another one is
 * refused.
 * A failover of Redis may lose a claim. The next worker's attempt then has the same number, so the fence also contains
 * the random id of the claim.
 */

/** Number of the attempt and id of its claim, separated by a space; the number alone if the claim has no id. */
export type Fence = string | number;

/** @param claim empty for an attempt of an earlier release, and for a job that was never claimed */
export const fenceOf = ({
  attempt,
  claim,
}: {
  readonly attempt: number;
  readonly claim: string;
}): Fence => (claim === "" ? attempt : `${attempt} ${claim}`);

/** Lua functions: the fence of a job's last attempt, from its hash or from the values there; nil if there is no such job. */
export const FENCE_LUA = `
local function fenceOfFields(attempt, claim)
  if not attempt then return nil end
  return claim and claim ~= '' and attempt .. ' ' .. claim or attempt
end
local function fenceOf(job) return fenceOfFields(unpack(redis.call('HMGET', job, 'attempt', 'claim'), 1, 2)) end
`;
