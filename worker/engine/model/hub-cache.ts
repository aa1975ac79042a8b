/**
 * The cache of the Hugging Face hub on this machine, in the layout that all its clients share:
 *
 *     models--ORG--NAME/blobs/HASH                    contents, by their hash
 *     models--ORG--NAME/snapshots/COMMIT/FILE         links to blobs
 *     models--ORG--NAME/refs/REVISION                 the commit of a branch or tag
 */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** A repository at one commit, as a manifest names it: ORG/NAME@COMMIT. */
export interface PinnedRepository {
  readonly name: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
}

export const PINNED_REPOSITORY = /^([\w.-]+\/[\w.-]+)@([0-9a-f]{40})$/;

/** @param text which matches PINNED_REPOSITORY */
export function toPinnedRepository(text: string): PinnedRepository {
  const [, name = "", commit = ""] = PINNED_REPOSITORY.exec(text) ?? [];
  return { name, commit };
}

/** The folder of the cache: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, or the hub folder of HF_HOME. */
export function hubCache(env: NodeJS.ProcessEnv = process.env): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = env;
  const home = HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), ".cache"), "huggingface");
  return HF_HUB_CACHE ?? HUGGINGFACE_HUB_CACHE ?? join(home, "hub");
}

/** The folder of a repository in the cache. */
export const repositoryFolder = (cache: string, name: string) =>
  join(cache, `models--${name.replace("/", "--")}`);

export const snapshotFolder = (cache: string, { name, commit }: PinnedRepository) =>
  join(repositoryFolder(cache, name), "snapshots", commit);

/** The model folder of a repository. @throws Error with the command that gets it if it is not in the cache */
export function cachedModelFolder(text: string): string {
  const folder = snapshotFolder(hubCache(), toPinnedRepository(text));
  if (existsSync(folder)) return folder;
  throw new Error(`${text} is not in ${hubCache()}: run \`npm run models -- pull ${text}\` first`);
}
