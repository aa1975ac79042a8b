/** Installing redis-server where that is possible, an error of one line where it is not, and servers of the stack. */
import { execFile } from "node:child_process";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { connectRedis, startRedis, withoutPassword } from "../../../infra/stack/redis.ts";

const REDIS_MODULE = new URL("../../../infra/stack/redis.ts", import.meta.url).href;

/** A fake apt-get: "installs" redis-server as a command that does nothing. */
const APT_GET = `#!/bin/sh
folder=\${0%/*}
echo "$@" >> "$folder/apt-runs"
[ "$1" = install ] || exit 0
[ -e "$folder/fails" ] && { echo "E: Unable to locate package" >&2; exit 100; }
printf '#!/bin/sh\\n' > "$folder/redis-server"
/bin/chmod +x "$folder/redis-server"
`;

/** Runs `ensureRedisServer` with only these commands on the PATH. @returns its output and the calls of apt-get */
async function ensureWith(commands: Readonly<Record<string, string>>) {
  const folder = await mkdtemp(join(tmpdir(), "trimtab-apt-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, script] of Object.entries(commands)) {
    await writeFile(join(folder, name), script);
    await chmod(join(folder, name), 0o755);
  }
  const script = `
    import { ensureRedisServer } from ${JSON.stringify(REDIS_MODULE)};
    try { ensureRedisServer(console.log); } catch (error) { console.log(error.name, error.message); }
  `;
  const output = await new Promise<string>((resolve, reject) => {
    const args = ["--input-type=module", "-e", script];
    execFile(process.execPath, args, { env: { PATH: folder } }, (error, out) => {
      if (error) reject(error);
      else resolve(out);
    });
  });
  const runs = await readFile(join(folder, "apt-runs"), "utf8").catch(() => "");
  return { output, runs: runs.trimEnd().split("\n") };
}

/** Used when the tests do not run as root. */
const sudo = '#!/bin/sh\nshift\nexec "$@"\n';

test("a missing redis-server is installed with apt-get, and a line says so", async () => {
  const { output, runs } = await ensureWith({ "apt-get": APT_GET, sudo, true: "#!/bin/sh\n" });
  expect(output).toBe("redis-server is not installed; installing it with apt-get\n");
  expect(runs.slice(1)).toEqual([
    "update -qq",
    "install -y -qq --no-install-recommends redis-server",
  ]);
});

test("the error of a failed installation gives the reason and says what to do", async () => {
  const { output } = await ensureWith({ "apt-get": APT_GET, sudo, true: "#!/bin/sh\n", fails: "" });
  expect(output.split("\n")[1]).toBe(
    "UserError redis-server could not be installed with apt-get (E: Unable to locate package): " +
      "install Redis 6.2 or newer, or set REDIS_URL to a server that runs",
  );
});

test("without apt-get the error says what to do", async () => {
  expect((await ensureWith({})).output).toBe(
    "UserError redis-server is not installed: install Redis 6.2 or newer, or set REDIS_URL to a server that runs\n",
  );
});

test("a started server refuses writes rather than evict keys, and does not answer once it is stopped", async () => {
  const server = await startRedis();
  const redis = await connectRedis(server.url);
  expect(await redis.config("GET", "maxmemory-policy")).toEqual(["maxmemory-policy", "noeviction"]);
  redis.disconnect();
  await server.stop();
  await expect(connectRedis(server.url)).rejects.toThrow("does not answer: ECONNREFUSED");
});

test("with an append-only file, acknowledged writes survive a crash", async () => {
  const server = await startRedis({ aof: true });
  onTestFinished(() => server.stop());
  const before = await connectRedis(server.url);
  await before.set("kept", "yes");
  await server.crash();
  before.disconnect();
  const after = await connectRedis(server.url);
  expect(await after.get("kept")).toBe("yes");
  after.disconnect();
});

test.for([
  ["redis://127.0.0.1:6379", "redis://127.0.0.1:6379"],
  ["redis://:secret@host:6379/1", "redis://:***@host:6379/1"],
  ["rediss://user:secret@host", "rediss://user:***@host"],
])("%s is displayed as %s", ([url, shown]) => {
  expect(withoutPassword(url ?? "")).toBe(shown);
});
