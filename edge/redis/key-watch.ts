/**
 * Stops a reader that may not read any more: its API key may be revoked, lose a scope, or get a new secret while the stream is open.
 * Each change is announced on the key's channel. A reader also checks its key from time to time, because pub/sub may lose messages.
 */
import { AppError } from "../../shared/api/errors.ts";
import type { Scope } from "../../shared/api/keys.ts";
import type { KeyRegistry } from "../../shared/keys/registry.ts";
import { keyChannel } from "../../shared/redis/keys.ts";

/** The right to read: the request's API key and the scope that it needs. */
export interface Authority {
  readonly keyId: string;
  /** SHA-256 of the secret that the request sent; null if it sent a ticket of the key. */
  readonly secretHash: string | null;
  /** The scope that the request needs. */
  readonly scope: Scope;
}

/** Watches the key of one reader. Times are in ms of `performance.now()`. */
export class KeyWatch {
  readonly #keys: KeyRegistry;
  readonly #authority: Authority | undefined;
  readonly #intervalMs: number;
  #checkAt: number;
  /** When the secret stops to work, because the key has a newer one. */
  #secretEndsAt = Infinity;

  /**
   * @param authority undefined for a reader that always may read
   * @param intervalMs the key is checked at least this often while there are entries
   */
  constructor(keys: KeyRegistry, authority: Authority | undefined, intervalMs: number) {
    this.#keys = keys;
    this.#authority = authority;
    this.#intervalMs = intervalMs;
    this.#checkAt = authority === undefined ? Infinity : 0;
  }

  /** The channels of the key: none or one. */
  get channels(): readonly string[] {
    return this.#authority === undefined ? [] : [keyChannel(this.#authority.keyId)];
  }

  get isDue(): boolean {
    return performance.now() >= Math.min(this.#checkAt, this.#secretEndsAt);
  }

  /** Milliseconds until the secret stops to work; Infinity if it has no end. */
  get secretEndsInMs(): number {
    return Math.max(1, this.#secretEndsAt - performance.now());
  }

  /** The key must be checked before the next entry. */
  mustCheck(): void {
    this.#checkAt = 0;
  }

  /**
   * Checks the key if it is due.
   * @throws AppError invalid_api_key or permission_denied if the request would be refused now
   */
  async check(): Promise<void> {
    if (this.#authority === undefined || !this.isDue) return;
    const { keyId, secretHash, scope } = this.#authority;
    const now = performance.now();
    this.#checkAt = now + this.#intervalMs;
    const standing = await this.#keys.standing(keyId, secretHash);
    if (standing === null) {
      const message = "The API key of this request was revoked, or its secret was replaced";
      throw new AppError("invalid_api_key", message);
    }
    if (!standing.scopes.includes(scope)) {
      const message = `The API key of this request does not have the scope ${scope} any more`;
      throw new AppError("permission_denied", message);
    }
    this.#secretEndsAt = now + standing.secretEndsInMs;
  }
}
