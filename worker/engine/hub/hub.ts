/**
 * Asks the Hugging Face hub, or a mirror, for a repository's commit and files. This is the folder's main file; download.ts gets one
 * file, and pull.ts what a model needs.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { homedir } from "node:os";
import { HubApiError, listFiles, modelInfo } from "@huggingface/hub";
import { HubError } from "./hub-error.ts";
import { retrying } from "./retry.ts";

export interface Hub {
  /** HF_ENDPOINT, without a slash at its end. */
  readonly endpoint: string;
  /** HF_TOKEN, or the one that `hf auth login` has stored; null for none. */
  readonly token: string | null;
}

export interface RemoteFile {
  readonly path: string;
  readonly size: number;
  /** Its name among the blobs: SHA-256 of a large file, git's hash of another one. */
  readonly hash: string;
  readonly isLarge: boolean;
}

export function hubFromEnv(env: NodeJS.ProcessEnv = process.env): Hub {
  const { HF_ENDPOINT = "https://huggingface.co", HF_TOKEN, HF_TOKEN_PATH, HF_HOME } = env;
  const home = HF_HOME ?? join(env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "huggingface");
  return {
    endpoint: HF_ENDPOINT.replace(/\/+$/, ""),
    token: HF_TOKEN ?? storedToken(HF_TOKEN_PATH ?? join(home, "token")),
  };
}

function storedToken(file: string): string | null {
  try {
    return readFileSync(file, "utf8").trim() || null;
  } catch {
    return null;
  }
}

/** The commit of a branch, a tag or a commit. @throws HubError */
export async function commitOf(hub: Hub, name: string, revision: string): Promise<string> {
  const { sha } = await asHubErrors(hub, `${name}@${revision}`, () =>
    modelInfo({ name, revision, additionalFields: ["sha"], ...credentials(hub) }),
  );
  return sha;
}

/** All files of a repository at a commit. @throws HubError */
export async function filesOf(hub: Hub, name: string, commit: string): Promise<RemoteFile[]> {
  const listing = { repo: { type: "model", name }, revision: commit, recursive: true } as const;
  return asHubErrors(hub, `${name}@${commit}`, async () => {
    const files: RemoteFile[] = [];
    for await (const { type, path, size, oid, lfs } of listFiles({
      ...listing,
      ...credentials(hub),
    })) {
      if (type !== "file") continue;
      const hash = lfs?.oid ?? oid;
      if (hash !== undefined) files.push({ path, size: lfs?.size ?? size, hash, isLarge: !!lfs });
    }
    return files;
  });
}

const credentials = ({ endpoint, token }: Hub) => ({
  hubUrl: endpoint,
  fetch: retrying,
  ...(token !== null && { accessToken: token }),
});

async function asHubErrors<T>(hub: Hub, what: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof HubApiError) throw new HubError(refusalText(hub, what, error.statusCode));
    const reason = error instanceof Error ? error.message : String(error);
    throw new HubError(`${what}: ${hub.endpoint} does not answer: ${reason}`);
  }
}

/** The error for a status of the hub, with its remedy. */
export function refusalText({ endpoint, token }: Hub, what: string, status: number): string {
  if (status === 401 || status === 403) {
    const remedy =
      token === null
        ? "set HF_TOKEN, or check the name"
        : "HF_TOKEN may not read it; a gated repository must be accepted on its page first";
    return `${what}: ${endpoint} refuses (${status}): ${remedy}`;
  }
  if (status === 404) return `${what}: not found at ${endpoint}`;
  return `${what}: ${endpoint} answers with status ${status}`;
}
