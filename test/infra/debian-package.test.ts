/** Installing redis-server where that is possible, and an error that says what to do where it is not. */
import { execFile } from "node:child_process";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";

const MODULE = new URL("../../infra/debian-package.mjs", import.meta.url).href;

/** A fake apt-get: "installs" redis-server as a command that does nothing. */
const APT_GET = `#!/bin/sh
folder=\${0%/*}
echo "$@" >> "$folder/apt-runs"
[ "$1" = install ] || exit 0
[ -e "$folder/fails" ] && { echo "E: Unable to locate package" >&2; exit 100; }
printf '#!/bin/sh\\n' > "$folder/redis-server"
/bin/chmod +x "$folder/redis-server"
`;
const redisServer = (version: string) => `#!/bin/sh\necho "Redis server v=${version} sha=0:0"\n`;

interface Call {
  readonly env?: Readonly<Record<string, string>>;
  readonly canUseUrl?: boolean;
}

/** Runs `redisProblem` with only these commands on the PATH. @returns its output and the calls of apt-get */
async function problemWith(
  commands: Readonly<Record<string, string>>,
  { env, canUseUrl = false }: Call = {},
) {
  const folder = await mkdtemp(join(tmpdir(), "trimtab-apt-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, script] of Object.entries(commands)) {
    await writeFile(join(folder, name), script);
    await chmod(join(folder, name), 0o755);
  }
  const script = `
    import { redisProblem } from ${JSON.stringify(MODULE)};
    console.log(redisProblem(console.log, ${canUseUrl}));
  `;
  const output = await new Promise<string>((resolve, reject) => {
    const args = ["--input-type=module", "-e", script];
    execFile(process.execPath, args, { env: { ...env, PATH: folder } }, (error, out) => {
      if (error) reject(error);
      else resolve(out);
    });
  });
  const runs = await readFile(join(folder, "apt-runs"), "utf8").catch(() => "");
  return { output: output.trimEnd(), runs: runs.trimEnd().split("\n") };
}

/** Used when the tests do not run as root. */
const sudo = '#!/bin/sh\nshift\nexec "$@"\n';

test("a missing redis-server is installed with apt-get, and a line says so", async () => {
  const { output, runs } = await problemWith({ "apt-get": APT_GET, sudo, true: "#!/bin/sh\n" });
  expect(output).toBe("redis-server is not installed; installing it with apt-get\nnull");
  expect(runs.slice(1)).toEqual([
    "update -qq",
    "install -y -qq --no-install-recommends redis-server",
  ]);
});

test("the error of a failed installation gives the reason and the commands to paste", async () => {
  const commands = { "apt-get": APT_GET, sudo, true: "#!/bin/sh\n", fails: "" };
  const { output } = await problemWith(commands);
  expect(output).toContain(
    "redis-server could not be installed with apt-get (E: Unable to locate package): install it, then",
  );
  expect(output).toMatch(
    /^ {4}(sudo )?apt-get update && (sudo )?apt-get install -y redis-server$/m,
  );
});

test("without apt-get the error says what to do, and names REDIS_URL only to a command that reads it", async () => {
  const remedy = "redis-server is not installed: install Redis 6.2 or newer in another way";
  expect((await problemWith({})).output).toBe(remedy);
  expect((await problemWith({}, { canUseUrl: true })).output).toBe(
    `${remedy}, or set REDIS_URL to a server that runs`,
  );
});

test("a command that reads REDIS_URL needs no redis-server if it is set, others do", async () => {
  const env = { REDIS_URL: "redis://h" };
  expect((await problemWith({}, { env, canUseUrl: true })).output).toBe("null");
  expect((await problemWith({}, { env })).output).not.toBe("null");
});

test("an old redis-server is refused, and REDIS_SERVER names another command", async () => {
  const { output } = await problemWith({ "redis-server": redisServer("6.0.16") });
  expect(output).toMatch(/^redis-server 6\.0 is too old: install Redis 6\.2 or newer/);
  expect((await problemWith({ "redis-server": redisServer("6.2.5") })).output).toBe("null");
  const commands = { "redis-server": redisServer("6.0.16"), "valkey-server": redisServer("8.1.1") };
  const env = { REDIS_SERVER: "valkey-server" };
  expect((await problemWith(commands, { env })).output).toBe("null");
});
