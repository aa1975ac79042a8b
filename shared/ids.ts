/** Random ids, hashes and base64. It imports nothing, so that every folder can use it. */

const ID_BYTES = 18;
/** Random bytes for ids. The bytes of one id cost nearly as much as those of many. */
const randomBytes = new Uint8Array(64 * ID_BYTES);
let usedBytes = randomBytes.length;

/** A random id such as `job_…`: the prefix and 18 random bytes as 24 letters and digits. */
export function newId(prefix: string): string {
  if (usedBytes === randomBytes.length) {
    crypto.getRandomValues(randomBytes);
    usedBytes = 0;
  }
  return toId(prefix, randomBytes.subarray(usedBytes, (usedBytes += ID_BYTES)));
}

/** An id of 18 bytes. */
export function toId(prefix: string, bytes: Uint8Array): string {
  return `${prefix}_${toBase64Url(bytes).replaceAll("-", "0").replaceAll("_", "1")}`;
}

export const sha256Hex = (text: string): Promise<string> => hashHex("sha256", text);

/** For Redis, which identifies a script by its SHA-1. For anything else use SHA-256. */
export const sha1Hex = (text: string): Promise<string> => hashHex("sha1", text);

type Algorithm = "sha1" | "sha256";
interface NodeCrypto {
  createHash(algorithm: Algorithm): { update(text: string): { digest(encoding: "hex"): string } };
}
interface Runtime {
  readonly process?: { getBuiltinModule?(name: "node:crypto"): NodeCrypto | undefined };
}
/** Not in browsers. Hashing a short text on another thread, as `crypto.subtle` does, costs ten times as much. */
const nodeCrypto = (globalThis as Runtime).process?.getBuiltinModule?.("node:crypto");
const SUBTLE_NAMES = { sha1: "SHA-1", sha256: "SHA-256" } as const;

async function hashHex(algorithm: Algorithm, text: string): Promise<string> {
  if (nodeCrypto) return nodeCrypto.createHash(algorithm).update(text).digest("hex");
  const data = new TextEncoder().encode(text);
  const digest = await crypto.subtle.digest(SUBTLE_NAMES[algorithm], data);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const toBase64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));

/** Base64 with the URL-safe alphabet (RFC 4648, section 5), without padding. */
export function toBase64Url(bytes: Uint8Array): string {
  return toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
