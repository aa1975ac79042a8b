/** What comes of a worker's try to take a job up. */

export interface Claimed {
  readonly status: "claimed";
  readonly attempt: number;
  /** The attempt before this one: when it began, and when it was last heard of. */
  readonly before: { readonly claimedAtMs: number; readonly seenAtMs: number } | null;
}

export type Claim =
  | Claimed
  | { readonly status: "ended" | "exhausted" | "late" | "lost"; readonly attempt: number }
  | { readonly status: "missing" };

/** Of the script that claims. */
export type ClaimReply = [
  code: number,
  attempt: number,
  claimedAtMs?: string,
  lastTokenAtMs?: string,
];

/** By what the script returns. */
const CLAIMS: Readonly<Record<number, Exclude<Claim["status"], "missing">>> = {
  [1]: "claimed",
  [0]: "ended",
  [-1]: "exhausted",
  [-3]: "late",
  [-4]: "lost",
};

export function claimOf([code, attempt, claimedAtMs, lastTokenAtMs]: ClaimReply): Claim {
  if (code === -2) return { status: "missing" };
  const status = CLAIMS[code]!;
  if (status !== "claimed") return { status, attempt };
  const beganMs = Number(claimedAtMs);
  const seenAtMs = Math.max(beganMs, Number(lastTokenAtMs));
  return { status, attempt, before: claimedAtMs ? { claimedAtMs: beganMs, seenAtMs } : null };
}
