/** An API key as it is stored in Redis. */
import * as v from "valibot";
import { KeyLimits, Scope } from "../api/keys.ts";
import { LIMITS } from "../api/limits.ts";
import { count, fromJson } from "../redis/fields.ts";
import { versionField } from "../redis/version.ts";

/** Version of API key records (redis/version.ts). */
export const KEY_VERSION = 2;

/** The version of a new record: releases before 2 know no scope `operator`, and read all other keys. */
export const keyVersion = (scopes: readonly Scope[]) =>
  scopes.includes("operator") ? KEY_VERSION : 1;

/** A key whose limits hold for all keys within it together. */
const LimitedKey = v.strictObject({ id: v.string(), limits: KeyLimits });
export type LimitedKey = v.InferOutput<typeof LimitedKey>;

export const ApiKeyRecord = v.strictObject({
  version: versionField(KEY_VERSION),
  id: v.string(),
  name: v.string(),
  tenant: v.string(),
  /** Of the secret. */
  sha256: v.string(),
  createdAtMs: count,
  scopes: v.pipe(fromJson, v.array(Scope)),
  limits: v.pipe(fromJson, KeyLimits),
  /** The key that created this one and those that it is within itself, if they are limited. They may be revoked. */
  within: v.optional(v.pipe(fromJson, v.array(LimitedKey)), "[]"),
});
export type ApiKeyRecord = v.InferOutput<typeof ApiKeyRecord>;

/** The value of `within` for a key that `maker` creates. */
export function withinOf({ id, limits, within }: ApiKeyRecord): LimitedKey[] {
  const { requests_per_minute, tokens_per_minute, concurrent_jobs } = limits;
  const rates = { requests_per_minute, tokens_per_minute, concurrent_jobs };
  const isLimited = Object.values(rates).some((limit) => limit != null);
  return isLimited ? [{ id, limits: rates }, ...within] : within;
}

/** Whether a key may create others: each level of keys within limited keys makes every submission check one more. */
export const mayCreateKeys = (maker: ApiKeyRecord) => withinOf(maker).length <= LIMITS.keyLevelsMax;
