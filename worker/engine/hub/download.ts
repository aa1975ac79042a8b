/**
 * Gets one file of a repository into the cache. A transfer that breaks goes on where it ended, also in a later run of the command;
 * the whole file is then compared with its hash, and only then it has its name among the blobs. Of several processes with one cache,
 * one gets a file, and the others wait for it.
 */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, existsSync, statSync } from "node:fs";
import { mkdir, open, readlink, rename, rm, symlink, type FileHandle } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { repositoryFolder, snapshotFolder, type PinnedRepository } from "../model/hub-cache.ts";
import { withFileLock } from "./file-lock.ts";
import { HubError } from "./hub-error.ts";
import { refusalText, type Hub, type RemoteFile } from "./hub.ts";
import { isTemporary, pauseMs } from "./retry.ts";

/** Tries without a new byte, after which a transfer fails. */
const TRIES_MAX = 6;
/** A transfer without a byte for so long is broken off and continued. */
const STALL_MS = 60_000;

export interface Download {
  readonly hub: Hub;
  readonly cache: string;
  readonly repository: PinnedRepository;
  /** Called with the bytes of the file that are there. */
  readonly onProgress: (file: RemoteFile, bytes: number) => void;
}

/** Whether the file is in the cache and complete. */
function isCached({ cache, repository }: Download, { path, size }: RemoteFile): boolean {
  const stats = statSync(join(snapshotFolder(cache, repository), path), { throwIfNoEntry: false });
  return stats?.size === size;
}

/** Bytes that are still to be transferred. */
export function missingBytes(download: Download, file: RemoteFile): number {
  if (isCached(download, file) || existsSync(blobOf(download, file))) return 0;
  return file.size - arrivedBytes(download, file);
}

/** Gets a file unless it is in the cache. @returns its path in the snapshot @throws HubError */
export async function downloadFile(download: Download, file: RemoteFile): Promise<string> {
  const link = join(snapshotFolder(download.cache, download.repository), file.path);
  if (isCached(download, file)) return link;
  const blob = blobOf(download, file);
  if (sizeOf(blob) !== file.size) await downloadAlone(download, file);
  await mkdir(dirname(link), { recursive: true });
  const target = relative(dirname(link), blob);
  if ((await readlink(link).catch(() => null)) !== target) {
    // Replaced in one step, because another process may do the same.
    const temporary = `${link}.${randomUUID()}`;
    await symlink(target, temporary);
    await rename(temporary, link);
  }
  return link;
}

const blobOf = ({ cache, repository }: Download, { hash }: RemoteFile) =>
  join(repositoryFolder(cache, repository.name), "blobs", hash);

const incompleteOf = (download: Download, file: RemoteFile) =>
  `${blobOf(download, file)}.incomplete`;

const sizeOf = (file: string) => statSync(file, { throwIfNoEntry: false })?.size ?? null;

/** Bytes that an earlier transfer has left; none if they are more than the file has, so that they are not of it. */
function arrivedBytes(download: Download, file: RemoteFile): number {
  const bytes = sizeOf(incompleteOf(download, file)) ?? 0;
  return bytes > file.size ? 0 : bytes;
}

/** Waits while another process downloads the file, and then takes its result. */
async function downloadAlone(download: Download, file: RemoteFile): Promise<void> {
  const blob = blobOf(download, file);
  await mkdir(dirname(blob), { recursive: true });
  const work = () =>
    downloadBlob(download, file).catch((error: unknown) => {
      // Clients of the cache that do not know the lock may be done first.
      if (sizeOf(blob) !== file.size) throw error;
    });
  await withFileLock(`${blob}.lock`, work, () => {
    const bytes = arrivedBytes(download, file);
    if (bytes < file.size) download.onProgress(file, bytes);
  });
}

async function downloadBlob(download: Download, file: RemoteFile): Promise<void> {
  const [blob, incomplete] = [blobOf(download, file), incompleteOf(download, file)];
  for (const isLast of [false, true]) {
    // Another process had the lock before.
    if (sizeOf(blob) === file.size) return download.onProgress(file, file.size);
    await transfer(download, file);
    if ((await hashOf(incomplete, file)) === file.hash) return rename(incomplete, blob);
    // Perhaps an older part of another content: once more from the beginning.
    await rm(incomplete, { force: true });
    if (isLast) throw new HubError(`${file.path}: what arrived has another hash than the hub says`);
  }
}

/** Gets all bytes of a file, in as many calls as it takes. */
async function transfer(download: Download, file: RemoteFile): Promise<void> {
  const incomplete = incompleteOf(download, file);
  let tries = 0;
  for (;;) {
    const start = arrivedBytes(download, file);
    if (start === file.size && existsSync(incomplete)) return;
    if (start === 0) await rm(incomplete, { force: true });
    const { pause, reason } = await transferPart(download, file, start);
    const isFurther = (sizeOf(incomplete) ?? 0) > start;
    tries = isFurther ? 0 : tries + 1;
    if (reason === null) continue;
    if (tries >= TRIES_MAX) throw new HubError(`${file.path}: ${reason}`);
    await sleep(pause ?? pauseMs(tries));
  }
}

/** @returns why the transfer ended early, and how long to wait if the server says it; nulls if it did not */
async function transferPart(
  { hub, repository, onProgress, ...rest }: Download,
  file: RemoteFile,
  start: number,
): Promise<{ pause: number | null; reason: string | null }> {
  const { endpoint, token } = hub;
  const path = file.path.split("/").map(encodeURIComponent).join("/");
  const url = `${endpoint}/${repository.name}/resolve/${repository.commit}/${path}`;
  const stall = new AbortController();
  let timer = setTimeout(() => stall.abort(), STALL_MS);
  let handle: FileHandle | null = null;
  try {
    const response = await fetch(url, {
      // fetch leaves the token out where the hub redirects to another host.
      headers: {
        ...(token !== null && { authorization: `Bearer ${token}` }),
        ...(start > 0 && { range: `bytes=${start}-` }),
      },
      signal: stall.signal,
    });
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      const { status, headers } = response;
      const reason = refusalText(hub, `${repository.name}: ${file.path}`, status);
      if (!isTemporary(status)) throw new HubError(reason);
      return { pause: pauseMs(1, headers.get("retry-after")), reason };
    }
    // A server that does not know ranges sends the whole file.
    const isContinued = response.status === 206;
    const incomplete = incompleteOf({ hub, repository, onProgress, ...rest }, file);
    handle = await open(incomplete, isContinued ? "a" : "w");
    let bytes = isContinued ? start : 0;
    for await (const chunk of response.body) {
      clearTimeout(timer);
      timer = setTimeout(() => stall.abort(), STALL_MS);
      // Writes the whole chunk, which `write` may not.
      await handle.appendFile(chunk as Uint8Array);
      bytes += (chunk as Uint8Array).length;
      onProgress(file, bytes);
    }
    return { pause: null, reason: bytes < file.size ? "the transfer ended early" : null };
  } catch (error) {
    if (error instanceof HubError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    return { pause: null, reason: `the transfer broke: ${reason}` };
  } finally {
    clearTimeout(timer);
    await handle?.close();
  }
}

/** SHA-256 of a large file; of others git's hash, which is SHA-1 of their size and content. */
async function hashOf(path: string, { isLarge, size }: RemoteFile): Promise<string> {
  const hash = createHash(isLarge ? "sha256" : "sha1");
  if (!isLarge) hash.update(`blob ${size}\0`);
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
