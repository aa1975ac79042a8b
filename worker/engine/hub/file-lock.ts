/**
 * A lock that processes and hosts with one folder in common respect: a file that only one of them can create. Its holder renews the
 * file's time, and one that was not renewed for long is of a process that has ended.
 */
import { open, rm, stat, utimes } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const RENEW_MS = 5_000;
/** Several renewals: the clocks of two hosts differ, and a slow disk delays one. */
const STALE_MS = 30_000;
/** Network file systems do not tell about changes, so a waiting process looks. */
const POLL_MS = 200;

/** @param onWait called now and then while another process has the lock */
export async function withFileLock<T>(
  file: string,
  work: () => Promise<T>,
  onWait: () => void,
): Promise<T> {
  while (!(await tryLock(file))) {
    onWait();
    await sleep(POLL_MS);
  }
  const renew = () => utimes(file, new Date(), new Date()).catch(() => {});
  const timer = setInterval(() => void renew(), RENEW_MS).unref();
  try {
    return await work();
  } finally {
    clearInterval(timer);
    await rm(file, { force: true });
  }
}

async function tryLock(file: string): Promise<boolean> {
  try {
    await (await open(file, "wx")).close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const stats = await stat(file).catch(() => null);
  if (stats && Date.now() - stats.mtimeMs > STALE_MS) await rm(file, { force: true });
  return false;
}
