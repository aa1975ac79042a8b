/** `npm run keys -- …`: API keys and webhook secrets from the command line. */
import { Command, InvalidArgumentError } from "commander";
import { parseRequest } from "../shared/validate.ts";
import { AppError } from "../shared/errors.ts";
import { KeyRegistry } from "../shared/key-registry.ts";
import { KeyRequest, RotateRequest } from "../shared/policy.ts";
import { RotationRequest } from "../shared/webhook-contract.ts";
import { explain, Problem } from "./stack/problem.ts";
import { connectRedis } from "./stack/redis.ts";

const SHOWN_ONCE = "(only its hash is stored: it cannot be shown again)";
const TENANT = /^[A-Za-z0-9_-]{1,64}$/;

interface CreateOptions {
  readonly name: string;
  readonly tenant?: string;
  readonly scopes: string;
  readonly requestsPerMinute?: number;
  readonly tokensPerMinute?: number;
  readonly concurrentJobs?: number;
  readonly alpha?: string;
  readonly models?: string;
}

const program = new Command("npm run keys --")
  .description("API keys and webhook secrets")
  .option("--redis <url>", "the Redis that edge and workers use (default: $REDIS_URL)")
  .helpCommand(false);

program
  .command("create")
  .description("make a key and print it, once")
  .requiredOption("--name <name>", "what the key is for")
  .option("--tenant <tenant>", "whose jobs it sees (default: a new tenant)")
  .option("--scopes <scopes>", "of jobs:write, jobs:read, admin", "jobs:write,jobs:read")
  .option("--requests-per-minute <n>", "submissions a minute (default: no limit)", toNumber)
  .option("--tokens-per-minute <n>", "of prompts and of what is generated", toNumber)
  .option("--concurrent-jobs <n>", "jobs that have not ended", toNumber)
  .option("--alpha <min..max>", "instead of the ensembles' range, such as -1..3")
  .option("--models <ensembles>", "that it may use (default: all)")
  .action(({ name, tenant, ...options }: CreateOptions) =>
    withKeys(async (keys) => {
      if (tenant !== undefined && !TENANT.test(tenant)) {
        throw new Problem("a tenant has 1 to 64 letters, digits, underscores and hyphens");
      }
      const { name: _, ...policy } = parseRequest(KeyRequest, { name, ...policyOf(options) });
      const made = await keys.create(name, tenant, policy);
      console.log(`key id          ${made.id}`);
      console.log(`tenant          ${made.tenant}`);
      console.log(`API key         ${made.key}   ${SHOWN_ONCE}`);
      if (made.webhookSecret !== null) console.log(`webhook secret  ${made.webhookSecret}`);
    }),
  );

program
  .command("list")
  .description("list the keys: id, creation, tenant, scopes, limits, name")
  .action(() =>
    withKeys(async (keys) => {
      for (const { id, createdAtMs, tenant, scopes, limits, name } of await keys.list()) {
        const created = new Date(createdAtMs).toISOString();
        const policy = [scopes.join(","), JSON.stringify(limits)];
        console.log([id, created, tenant, ...policy, name].join("  "));
      }
    }),
  );

program
  .command("revoke")
  .description("refuse a key from now on")
  .argument("<key id>")
  .action((id: string) =>
    withKeys(async (keys) => {
      if (!(await keys.revoke(id))) throw new Problem(`there is no key ${id}`);
      console.log(`revoked ${id}`);
    }),
  );

program
  .command("rotate")
  .description("replace a key, which keeps its id, and print the new one, once")
  .argument("<key id>")
  .option("--overlap <seconds>", "for which the old one works too", toNumber, 0)
  .action((id: string, options: { overlap: number }) =>
    withKeys(async (keys) => {
      const { overlap } = parseRequest(RotateRequest, options);
      const key = await keys.rotate(id, overlap);
      if (key === null) throw new Problem(`there is no key ${id}`);
      console.log(`API key         ${key}   ${SHOWN_ONCE}`);
    }),
  );

program
  .command("secret")
  .description("show a tenant's webhook secret")
  .requiredOption("--tenant <tenant>")
  .option("--rotate", "replace it first: from now on webhooks are signed with the new one")
  .option("--overlap <seconds>", "for which the old one signs too", toNumber, 86_400)
  .action(({ tenant, rotate, overlap }: { tenant: string; rotate?: boolean; overlap: number }) =>
    withKeys(async (keys) => {
      const { overlap_seconds } = parseRequest(RotationRequest, { overlap_seconds: overlap });
      const secret = await (rotate === true
        ? keys.rotateWebhookSecret(tenant, (overlap_seconds ?? 0) * 1000)
        : keys.webhookSecret(tenant));
      if (secret === null) throw new Problem(`there is no tenant ${tenant}`);
      console.log(secret);
    }),
  );

await program.parseAsync().catch((error: unknown) => {
  console.error(error instanceof AppError ? error.message : explain(error));
  process.exitCode = 1;
});

function toNumber(value: string): number {
  if (value.trim() !== "" && !Number.isNaN(Number(value))) return Number(value);
  throw new InvalidArgumentError("expected a number");
}

/** The policy as the API takes it; what is wrong with it, the API's own schema says. */
function policyOf(options: Omit<CreateOptions, "name" | "tenant">): object {
  const [min, max] = (options.alpha?.split("..") ?? []).map(Number);
  return {
    scopes: options.scopes.split(","),
    limits: {
      requests_per_minute: options.requestsPerMinute,
      tokens_per_minute: options.tokensPerMinute,
      concurrent_jobs: options.concurrentJobs,
      alpha: options.alpha === undefined ? undefined : { min, max },
      models: options.models?.split(","),
    },
  };
}

async function withKeys(work: (keys: KeyRegistry) => Promise<void>): Promise<void> {
  const url = program.opts<{ redis?: string }>().redis ?? process.env["REDIS_URL"];
  if (url === undefined || url === "") throw new Problem("set REDIS_URL or pass --redis <url>");
  const redis = await connectRedis(url);
  try {
    await work(new KeyRegistry(redis));
  } finally {
    redis.disconnect();
  }
}
