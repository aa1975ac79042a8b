/** `npm run keys -- …`: API keys and webhook secrets from the command line. */
import { Command } from "commander";
import { KeyRegistry } from "./key-registry.ts";
import { explain, Problem } from "./stack/problem.ts";
import { connectRedis } from "./stack/redis.ts";

const program = new Command("npm run keys --")
  .description("API keys and webhook secrets")
  .option("--redis <url>", "the Redis that edge and workers use (default: $REDIS_URL)")
  .helpCommand(false);

program
  .command("create")
  .description("make a key and print it, once")
  .requiredOption("--name <name>", "what the key is for")
  .option("--tenant <tenant>", "whose jobs it sees (default: a new tenant)")
  .action((options: { name: string; tenant?: string }) =>
    withKeys(async (keys) => {
      const made = await keys.create(options.name, options.tenant);
      console.log(`key id          ${made.id}`);
      console.log(`tenant          ${made.tenant}`);
      console.log(
        `API key         ${made.key}   (only its hash is stored: it cannot be shown again)`,
      );
      if (made.webhookSecret !== null) console.log(`webhook secret  ${made.webhookSecret}`);
    }),
  );

program
  .command("list")
  .description("list the keys: id, creation, tenant, name")
  .action(() =>
    withKeys(async (keys) => {
      for (const { id, createdAtMs, tenant, name } of await keys.list()) {
        console.log([id, new Date(createdAtMs).toISOString(), tenant, name].join("  "));
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
  .command("secret")
  .description("show a tenant's webhook secret")
  .requiredOption("--tenant <tenant>")
  .option("--rotate", "replace it first: from now on webhooks are signed with the new one")
  .action(({ tenant, rotate }: { tenant: string; rotate?: boolean }) =>
    withKeys(async (keys) => {
      const secret = await (rotate === true
        ? keys.rotateWebhookSecret(tenant)
        : keys.webhookSecret(tenant));
      if (secret === null) throw new Problem(`there is no tenant ${tenant}`);
      console.log(secret);
    }),
  );

await program.parseAsync().catch((error: unknown) => {
  console.error(explain(error));
  process.exitCode = 1;
});

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
