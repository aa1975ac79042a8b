/** Opens the remote base of a manifest's entry. */
import { readFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { baseApi } from "../remote/apis/apis.ts";
import { Connection } from "../remote/connection.ts";
import { RemoteBase } from "../remote/remote-base.ts";
import { serverTextOf } from "../remote/server-text.ts";
import { RemoteDecoder } from "../remote/remote-decoder.ts";
import type { EnsembleTokenizers } from "./ensemble-tokenizers.ts";
import type { RemoteEntry } from "./manifest.ts";

/** Special tokens whose texts are compared with the server's tokenizer. */
const SPECIAL_TEXTS_MAX = 16;

/**
 * Opens a remote base and checks it. One that does not answer is away for now: `base.problem` says why.
 * @throws Error with the reason and a remedy if it does not fit
 */
export async function loadRemote(
  entry: RemoteEntry,
  tokenizers: EnsembleTokenizers,
): Promise<RemoteDecoder> {
  const { vocabSize, contextTokens, silentIds, tokenText, encodeCompletion } = tokenizers;
  const { url, model, prompts, concurrency, timeoutSeconds, patienceSeconds } = entry;
  const usual = usualLists(entry);
  const { top = usual.top, rows = usual.rows } = entry;
  const bosId = firstSpecialId(tokenizers);
  const connection = new Connection({
    url,
    name: model,
    key: keyReader(entry),
    concurrency,
    timeoutMs: timeoutSeconds * 1000,
    patienceMs: patienceSeconds * 1000,
  });
  const api = baseApi(entry.api, {
    model,
    top,
    prompts,
    bosId,
    texts: tokenizers,
    wholeToken: wholeToken(tokenizers),
  });
  const base = new RemoteBase({ api, connection, name: model, vocabSize, top, rowsMax: rows });
  try {
    await base.open({
      contextTokens,
      bosId,
      checkTokenizer: entry.checkTokenizer,
      specialTexts: [...silentIds].slice(0, SPECIAL_TEXTS_MAX).map((id) => tokenText(id).token),
      encode: (text) => {
        try {
          return encodeCompletion(text);
        } catch {
          return null;
        }
      },
    });
    return new RemoteDecoder(base);
  } catch (error) {
    await base.close();
    const reason = error instanceof Error ? error.message : String(error);
    const text = serverTextOf(error);
    const said = text === null ? "" : ` (the server: ${text})`;
    throw new Error(`base ${model} at ${url}: ${reason}${said}`, { cause: error });
  }
}

/** The most that hosted APIs allow; a server of one's own is told otherwise when it starts. */
function usualLists({ api, prompts }: RemoteEntry): {
  readonly top: number;
  readonly rows: number;
} {
  if (api !== "openai") return { top: 64, rows: 8 };
  return { top: prompts === "text" ? 5 : 20, rows: 1 };
}

/** The token for the beginning of a text, if the base's prompts have it; otherwise null. */
function firstSpecialId({
  tokenizerInfo,
  silentIds,
  tokenText,
  encodePrompt,
}: EnsembleTokenizers): number | null {
  const inputs = [
    { kind: "text", text: "a" },
    { kind: "chat", messages: [{ role: "user", content: "a" }] },
  ] as const;
  for (const input of inputs) {
    try {
      const [first] = encodePrompt("base", input);
      const isBos = silentIds.has(first!) && tokenText(first!).token === tokenizerInfo["bos_token"];
      if (isBos) return first!;
    } catch {
      // No chat template.
    }
  }
  return null;
}

/** A token of one ASCII letter, perhaps after a space; null if there is none. */
export function wholeToken({
  encodeCompletion,
}: Pick<EnsembleTokenizers, "encodeCompletion">): number | null {
  for (const text of ["a", " a", "the", " the"]) {
    try {
      const ids = encodeCompletion(text);
      if (ids.length === 1) return ids[0]!;
    } catch {
      continue;
    }
  }
  return null;
}

/**
 * Fingerprint of a remote base (SHA-256, hex): its API, prompts, model and revision. Workers may reach it at different URLs. What weights
 * the server has cannot be known from here; the probe compares them while a worker runs.
 */
export function remoteFingerprint({ api, prompts, model, revision }: RemoteEntry): string {
  const form = api === "openai" ? [prompts] : [];
  return createHash("sha256")
    .update(JSON.stringify(["remote", api, ...form, model, revision]))
    .digest("hex");
}

/**
 * Reads the key when it is needed, so that it can be replaced; the last one stays while there is none.
 * @throws Error that names the variable or the file
 */
export function keyReader({ key }: Pick<RemoteEntry, "key">): () => string | null {
  if (!key) return () => null;
  const read = () => ("env" in key ? process.env[key.env] : readFileSync(key.file, "utf8").trim());
  let last = read();
  if (!last)
    throw new Error(`base: ${"env" in key ? `the variable ${key.env}` : key.file} is empty`);
  return () => {
    try {
      last = read() || last;
    } catch {
      // The file may be missing for a moment while it is replaced.
    }
    return last ?? null;
  };
}
