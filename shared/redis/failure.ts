/** Tells error replies that mean that Redis cannot serve now from those that mean a bug in this code. */

/**
 * Codes of replies that mean a bug. All other codes mean that Redis cannot do a correct command now, or refuses the login:
 * LOADING, OOM, READONLY, MASTERDOWN, NOREPLICAS, BUSY, NOAUTH and more. Later versions and proxies add others.
 */
const BUG_CODES = new Set(["ERR", "WRONGTYPE", "NOSCRIPT", "BUSYKEY", "EXECABORT", "CROSSSLOT"]);
/** Replies without a code of their own that mean the same: too many connections, or a login that is not configured. */
const FAILURES_WITHOUT_CODE = /^ERR (max number of clients|invalid password|.*\bAUTH\b)/;
/** Before version 7, Redis reports the failure of a command in a script as: `ERR Error running script …: -OOM command …`. */
const ERROR_IN_SCRIPT = /^ERR Error running script .*: -(?<code>[A-Z]+) /;

/** Whether the error message in a reply of Redis means a failure of Redis, not a wrong command. */
export function isFailureReply(message: string): boolean {
  if (FAILURES_WITHOUT_CODE.test(message)) return true;
  const code = ERROR_IN_SCRIPT.exec(message)?.groups?.code ?? message.split(" ", 1)[0]!;
  return !BUG_CODES.has(code);
}
