/**
 * Idempotency in Redis: how the scripts that create jobs or batches recognise a request that is sent again. The edge makes the
 * claim from the request's headers (edge/requests/idempotency.ts).
 */

export interface IdempotencyClaim {
  /** Redis key under which the request's first job, or its batch, is remembered. */
  readonly key: string;
  /** SHA-256 of the request. Another request with the same key is a conflict. */
  readonly requestHash: string;
  /** True: new jobs are created even if the key is known. A later request with the same key gets the new jobs. */
  readonly forceNew: boolean;
  readonly ttlMs: number;
}

/** The claim as the scripts read it (JSON, `false` for none). Its key is one of the script's KEYS. */
export function claimJson(claim: IdempotencyClaim | null): string {
  if (claim === null) return "false";
  const { requestHash, forceNew, ttlMs } = claim;
  return JSON.stringify({ requestHash, forceNew, ttlMs });
}

/** Lua functions. Both do nothing without a claim; `key` is its key. Claims of earlier releases have the field `fingerprint`, so it keeps this name. */
export const IDEMPOTENCY_LUA = `
-- Returns {'existing', id} for a request that is sent again, {'conflict'} for another one with the same key, or nil.
local function findClaimed(key, claim)
  if not claim or claim.forceNew then return nil end
  local known = redis.call('HMGET', key, 'fingerprint', 'job')
  if known[1] == claim.requestHash then return {'existing', known[2]} end
  if known[1] then return {'conflict'} end
end
local function saveClaim(key, claim, id)
  if not claim then return end
  redis.call('HSET', key, 'fingerprint', claim.requestHash, 'job', id)
  redis.call('PEXPIRE', key, claim.ttlMs)
end
`;
