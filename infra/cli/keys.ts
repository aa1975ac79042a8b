/** `npm run keys -- …`: creates, lists, rotates and revokes API keys, and shows webhook secrets. It uses Redis directly. */
import { Command, InvalidArgumentError } from "commander";
import * as v from "valibot";
import { parseRequest } from "../../shared/submission/validate.ts";
import { AppError } from "../../shared/api/errors.ts";
import { tellCount } from "../../shared/redis/shards.ts";
import { listModels } from "../../shared/workers/registry.ts";
import { KeyRequest, KeyRotationRequest, Scope } from "../../shared/api/keys.ts";
import { WebhookKeyRotationRequest } from "../../shared/api/webhooks.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import {
  connectShards,
  emptiestShard,
  shardWithKey,
  shardWithTenant,
  type Shard,
} from "./shards.ts";

const SHOWN_ONCE = "(only its hash is stored: it cannot be shown again)";
const RANGE = /^(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)$/;
const TENANT = /^[A-Za-z0-9_-]{1,64}$/;

interface CreateOptions {
  readonly name: string;
  readonly tenant?: string;
  readonly shard?: number;
  readonly within?: string;
  readonly scopes?: readonly Scope[];
  readonly requestsPerMinute?: number;
  readonly tokensPerMinute?: number;
  readonly concurrentJobs?: number;
  readonly alpha?: { readonly min: number; readonly max: number };
  readonly models?: readonly string[];
}

const program = new Command("npm run keys --")
  .description("manage API keys and webhook secrets")
  .option(
    "--redis <url>",
    "URL of the Redis that edge and workers use, or the URLs of its shards (default: $REDIS_URL)",
  )
  .helpCommand(false);

program
  .command("create")
  .description("create a key and print it; it cannot be shown again")
  .requiredOption("--name <name>", "a name for the list of keys, such as its purpose")
  .option(
    "--shard <n>",
    "with several URLs: the shard of a new tenant, counted from 0 (default: the one with the fewest keys)",
    toNumber,
  )
  .option("--tenant <tenant>", "the tenant whose jobs the key can see (default: a new tenant)")
  .option(
    "--within <key id>",
    "a key of the same tenant whose limits hold for all keys within it together (default: none)",
  )
  .option(
    "--scopes <scopes>",
    "comma-separated list of jobs:write, jobs:read, admin and operator (default: jobs:write,jobs:read)",
    toScopes,
  )
  .option(
    "--requests-per-minute <n>",
    "limit of submissions per minute (default: no limit)",
    toNumber,
  )
  .option(
    "--tokens-per-minute <n>",
    "limit of prompt and generated tokens per minute (default: no limit)",
    toNumber,
  )
  .option(
    "--concurrent-jobs <n>",
    "limit of jobs that have not ended (default: no limit)",
    toNumber,
  )
  .option(
    "--alpha <min..max>",
    "range that replaces the range of the ensembles, such as -1..3",
    toRange,
  )
  .option(
    "--models <ensembles>",
    "comma-separated ids of the ensembles that the key may use (default: all)",
    (value: string) => value.split(","),
  )
  .action(({ name, within, ...options }: CreateOptions) =>
    withShards(async (shards) => {
      const outer = within === undefined ? null : await requireKey(shards, within);
      const tenant = options.tenant ?? outer?.tenant;
      if (outer !== null && tenant !== outer.tenant) {
        throw new UserError(`${within} is a key of the tenant ${outer.tenant}`);
      }
      if (tenant !== undefined && !TENANT.test(tenant)) {
        throw new UserError("tenant: 1 to 64 letters, digits, underscores and hyphens");
      }
      const policy = checkedPolicy(name, options);
      const { keys, redis } = await shardForKey(shards, tenant, options.shard);
      const created = await keys.create(name, tenant, policy, outer);
      console.log(`key id          ${created.id}`);
      console.log(`tenant          ${created.tenant}`);
      console.log(`API key         ${created.key}   ${SHOWN_ONCE}`);
      if (created.webhookSecret !== null) console.log(`webhook secret  ${created.webhookSecret}`);
      if (!(await tellCount(shards.map((shard) => shard.redis)))) {
        console.log(
          "note            not all shards know that this one has tenants: they learn it later",
        );
      }
      const models = await listModels(redis);
      const served = models.filter(({ workers }) => workers.length > 0);
      for (const model of options.models ?? []) {
        if (!served.some(({ card }) => card.id === model))
          console.log(`note            no worker serves the model ${model} now`);
      }
    }),
  );

program
  .command("list")
  .description("list the keys: id, creation time, tenant, scopes, limits, name")
  .action(() =>
    withShards(async (shards) => {
      const lists = await Promise.all(shards.map(({ keys }) => keys.list()));
      const records = lists.flat().toSorted((a, b) => a.createdAtMs - b.createdAtMs);
      printTable([
        ["key id", "created", "tenant", "scopes", "limits", "name"],
        ...records.map(({ id, createdAtMs, tenant, scopes, limits, name }) => {
          const created = new Date(createdAtMs).toISOString();
          return [id, created, tenant, scopes.join(","), JSON.stringify(limits), name];
        }),
      ]);
    }),
  );

program
  .command("revoke")
  .description("make a key invalid, at once and for good")
  .argument("<key id>")
  .action((id: string) =>
    withShards(async (shards) => {
      const shard = await shardWithKey(shards, id);
      if (!(await shard?.keys.revoke(id))) throw new UserError(`There is no key ${id}`);
      console.log(`revoked ${id}`);
    }),
  );

program
  .command("rotate")
  .description(
    "replace the secret of a key, which keeps its id, and print the new key; it cannot be shown again",
  )
  .argument("<key id>")
  .option("--overlap <seconds>", "time in which the old key is valid too", toNumber, 0)
  .action((id: string, options: { overlap: number }) =>
    withShards(async (shards) => {
      const { overlap } = parseRequest(KeyRotationRequest, options);
      const key = await (await shardWithKey(shards, id))?.keys.rotate(id, overlap);
      if (!key) throw new UserError(`There is no key ${id}`);
      console.log(`API key         ${key}   ${SHOWN_ONCE}`);
    }),
  );

program
  .command("secret")
  .description("print a tenant's webhook secret")
  .requiredOption("--tenant <tenant>")
  .option("--rotate", "replace it first; webhooks are then signed with the new secret")
  .option(
    "--overlap <seconds>",
    "with --rotate: time in which webhooks are signed with the old secret too",
    toNumber,
    86_400,
  )
  .action(({ tenant, rotate, overlap }: { tenant: string; rotate?: boolean; overlap: number }) =>
    withShards(async (shards) => {
      const shard = await shardWithTenant(shards, tenant);
      const { overlap_seconds } = parseRequest(WebhookKeyRotationRequest, {
        overlap_seconds: overlap,
      });
      const secret = await (rotate === true
        ? shard?.keys.rotateWebhookSecret(tenant, (overlap_seconds ?? 0) * 1000)
        : shard?.keys.webhookSecret(tenant));
      if (!secret) throw new UserError(`There is no tenant ${tenant}`);
      console.log(secret);
    }),
  );

await program.parseAsync().catch((error: unknown) => {
  console.error(error instanceof AppError ? withOptionName(error.message) : errorText(error));
  process.exitCode = 1;
});

function toNumber(value: string): number {
  if (value.trim() !== "" && !Number.isNaN(Number(value))) return Number(value);
  throw new InvalidArgumentError("Expected a number.");
}

function toScopes(value: string): Scope[] {
  return value.split(",").map((scope) => {
    if (v.is(Scope, scope)) return scope;
    throw new InvalidArgumentError(`The scopes are ${Scope.options.join(", ")}.`);
  });
}

/** The scopes that a request may name; undefined for none. */
function tenantScopes(scopes: readonly Scope[] = []): Scope[] | undefined {
  const named = scopes.filter((scope) => scope !== "operator");
  return named.length === 0 ? undefined : named;
}

function toRange(value: string): { min: number; max: number } {
  const [, min, max] = (RANGE.exec(value) ?? []).map(Number);
  if (min !== undefined && max !== undefined && min <= max) return { min, max };
  throw new InvalidArgumentError("Expected two numbers, the smaller one first, such as -1..3.");
}

/** The message of the API's schema with the option in place of the field: `limits.alpha.min` becomes `--alpha: min`. */
function withOptionName(message: string): string {
  return message.replace(
    /^limits\.(\w+)(?:\.(min|max)|\.\d+)?/,
    (_, limit: string, bound?: string) => {
      const option = `--${limit.replaceAll("_", "-")}`;
      return bound === undefined ? option : `${option}: ${bound}`;
    },
  );
}

/** Prints rows with aligned columns. */
function printTable(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  for (const row of rows) {
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    );
  }
}

/** The scopes and limits in the form of the API's request, whose schema then checks them. */
function policyFromOptions(options: Omit<CreateOptions, "name" | "tenant" | "within">): object {
  return {
    scopes: tenantScopes(options.scopes),
    limits: {
      requests_per_minute: options.requestsPerMinute,
      tokens_per_minute: options.tokensPerMinute,
      concurrent_jobs: options.concurrentJobs,
      alpha: options.alpha,
      models: options.models,
    },
  };
}

async function requireKey(shards: readonly Shard[], id: string) {
  const record = await (await shardWithKey(shards, id))?.keys.get(id);
  if (!record) throw new UserError(`There is no key ${id}`);
  return record;
}

/** The shard of a tenant, or of a new one. @param wanted the number of the shard of a new one */
async function shardForKey(
  shards: readonly Shard[],
  tenant: string | undefined,
  wanted: number | undefined,
): Promise<Shard> {
  const ofTenant = tenant === undefined ? null : await shardWithTenant(shards, tenant);
  if (wanted === undefined) return ofTenant ?? emptiestShard(shards);
  const shard = shards.find(({ number }) => number === wanted);
  if (shard === undefined) throw new UserError(`--shard: there is no shard ${wanted}`);
  if (ofTenant !== null && ofTenant !== shard)
    throw new UserError(`The tenant ${tenant} is on shard ${ofTenant.number}: it cannot be moved`);
  return shard;
}

/** @throws AppError for an option that the API would refuse */
function checkedPolicy(name: string, options: Omit<CreateOptions, "name">) {
  const { name: _, ...checked } = parseRequest(KeyRequest, { name, ...policyFromOptions(options) });
  // Over HTTP no key gets the scope of the operator.
  return { ...checked, scopes: options.scopes ?? checked.scopes };
}

async function withShards(work: (shards: readonly Shard[]) => Promise<void>): Promise<void> {
  const urls = program.opts<{ redis?: string }>().redis ?? process.env["REDIS_URL"];
  if (urls === undefined || urls === "") throw new UserError("Set REDIS_URL or pass --redis <url>");
  const shards = await connectShards(urls);
  try {
    await work(shards);
  } finally {
    for (const { close } of shards) close();
  }
}
