/**
 * Corrects the jobs of each API key that count as not ended, the lists of each tenant's jobs that have not ended, and the bytes of
 * each tenant's requests. They are wrong after an upgrade in which processes of the release before ended jobs. A step is bounded, so that a large queue does not hold up Redis.
 */
import type { RedisClient } from "../../shared/redis/client.ts";
import * as v from "valibot";
import { jobSetKey } from "../../shared/jobs/job-index-lua.ts";
import {
  correctOpenJobs,
  recountBytes,
  removeEndedJobs,
} from "../../shared/jobs/recount-scripts.ts";
import { fromJson } from "../../shared/redis/fields.ts";
import {
  API_KEYS_KEY,
  apiKeyKey,
  batchPoolId,
  DUE_KEY,
  KEY_JOBS_PREFIX,
  REQUEST_BYTES_KEY,
} from "../../shared/redis/keys.ts";

/** Calls of scripts in one step. */
const POOL_CALLS = 8;
const FLOW_CALLS = 2;
const LIST_CALLS = 2;
/** Jobs of an API key that one call looks at, about. */
const KEY_JOBS_COUNT = 200;
/** Jobs of a tenant that one call looks at, about. */
const LIST_JOBS_COUNT = 100;
/** A tenant's bytes are counted again when at most this many jobs run and wait for the tenant: a call takes a few milliseconds. */
const FLOW_JOBS_MAX = 2_000;

const Within = v.pipe(fromJson, v.array(v.object({ id: v.string() })));

export class Recount {
  readonly #redis: RedisClient;
  /** Pools of API keys, tenants with lists, and flows, that the next steps look at. */
  #pools: string[] = [];
  #tenants: string[] = [];
  #flows: string[] = [];
  #keysCursor = "0";
  #flowsCursor = "0";
  /** Positions within the first pool, and within the first tenant's list. */
  #jobsCursor = "0";
  #listCursor = "0";

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** Looks at the next keys and tenants; after the last ones it begins again. */
  async step(): Promise<void> {
    if (this.#pools.length === 0 && this.#tenants.length === 0) await this.#readKeys();
    if (this.#flows.length === 0) await this.#readFlows();
    for (let call = 0; call < POOL_CALLS; call++) await this.#checkPool();
    for (let call = 0; call < LIST_CALLS; call++) await this.#checkList();
    for (let call = 0; call < FLOW_CALLS; call++) await this.#checkFlow();
  }

  async #readKeys(): Promise<void> {
    const [cursor, ids] = await this.#redis.sscan(API_KEYS_KEY, this.#keysCursor);
    this.#keysCursor = cursor;
    const records = await Promise.all(
      ids.map((id) => this.#redis.hmget(apiKeyKey(id), "within", "tenant")),
    );
    this.#tenants = [...new Set(records.flatMap(([, tenant]) => tenant ?? []))];
    // The limits of a revoked key hold for the keys that it created.
    const makers = records.flatMap(([json]) => v.parse(Within, json ?? "[]").map(({ id }) => id));
    const keys = new Set([...ids, ...makers]);
    this.#pools = [...keys].flatMap((id) => [id, batchPoolId(id)]);
  }

  async #readFlows(): Promise<void> {
    const [cursor, fields] = await this.#redis.hscan(REQUEST_BYTES_KEY, this.#flowsCursor);
    this.#flowsCursor = cursor;
    this.#flows = fields.filter((_, i) => i % 2 === 0);
  }

  async #checkPool(): Promise<void> {
    const [pool] = this.#pools;
    if (pool === undefined) return;
    const args = [this.#jobsCursor, KEY_JOBS_COUNT];
    const cursor = await removeEndedJobs(this.#redis, [KEY_JOBS_PREFIX + pool], args);
    this.#jobsCursor = String(cursor);
    if (cursor === "0") this.#pools.shift();
  }

  async #checkList(): Promise<void> {
    const [tenant] = this.#tenants;
    if (tenant === undefined) return;
    const args = [tenant, this.#listCursor, LIST_JOBS_COUNT];
    const keys = [DUE_KEY, jobSetKey(tenant, "open"), jobSetKey(tenant, "running")];
    this.#listCursor = String(await correctOpenJobs(this.#redis, keys, args));
    if (this.#listCursor === "0") this.#tenants.shift();
  }

  async #checkFlow(): Promise<void> {
    const flow = this.#flows.shift();
    if (flow !== undefined) await recountBytes(this.#redis, [DUE_KEY], [flow, FLOW_JOBS_MAX]);
  }
}
