/** `infra/bootstrap.mjs` in a temporary repository, with the real Node and a fake npm. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";

const INFRA = join(import.meta.dirname, "../../infra");

/** Writes its arguments to a file and creates the files that npm would. */
const FAKE_NPM = `#!/bin/sh
echo "$@" >> npm-runs
echo "$npm_config_cache" >> npm-cache
[ -e npm-fails ] && exit 1
mkdir -p node_modules/.bin
ln -sf '${process.execPath}' node_modules/.bin/node
echo '{}' > node_modules/.package-lock.json
`;

interface ScriptResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly output: string;
}

class Repository {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  write(name: string, content: string): Promise<void> {
    return writeFile(join(this.folder, name), content);
  }

  start(args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    const PATH = `${join(this.folder, "bin")}:${process.env["PATH"]}`;
    return spawn(process.execPath, ["infra/bootstrap.mjs", ...args], {
      cwd: this.folder,
      env: { PATH, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  run(...args: string[]): Promise<ScriptResult> {
    return this.runWith({}, ...args);
  }

  runWith(env: Readonly<Record<string, string>>, ...args: string[]): Promise<ScriptResult> {
    return resultOf(this.start(args, env));
  }

  async npmRuns(): Promise<string[]> {
    return (await readFile(join(this.folder, "npm-runs"), "utf8")).trim().split("\n");
  }
}

async function resultOf(child: ChildProcess): Promise<ScriptResult> {
  const [out, error] = [text(child.stdout!), text(child.stderr!)];
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  return { code, signal, output: (await out) + (await error) };
}

async function newRepository(): Promise<Repository> {
  const folder = await mkdtemp(join(tmpdir(), "trimtab-bootstrap-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const repository = new Repository(folder);
  await mkdir(join(folder, "infra"));
  await mkdir(join(folder, "bin"));
  for (const file of ["infra/bootstrap.mjs", "infra/debian-package.mjs"]) {
    await copyFile(join(INFRA, "..", file), join(folder, file));
  }
  await repository.write("bin/npm", FAKE_NPM);
  await chmod(join(folder, "bin/npm"), 0o755);
  await repository.write("package-lock.json", "one");
  await repository.write("say.ts", "console.log(...(process.argv.slice(2) as string[]));");
  return repository;
}

test("packages are installed once, and again when the lock file changes", async () => {
  const repository = await newRepository();
  const first = await repository.run("say.ts", "hello", "--there");
  expect(first).toMatchObject({ code: 0, signal: null });
  expect(first.output).toMatch(
    /^packages: installing.*\npackages: installed in .*\nhello --there\n$/,
  );
  expect(await repository.run("say.ts", "again")).toMatchObject({ output: "again\n" });
  expect(await repository.npmRuns()).toEqual([
    "ci --no-install-links --no-audit --no-fund --loglevel=error",
  ]);

  await repository.write("package-lock.json", "two");
  expect((await repository.run("say.ts", "hello")).output).toMatch(/^packages: installing/);
  expect(await repository.npmRuns()).toHaveLength(2);
});

test("a failed installation is reported, the script does not run, and the next run installs again", async () => {
  const repository = await newRepository();
  await repository.write("npm-fails", "");
  const failed = await repository.run("say.ts", "hello");
  expect(failed.code).toBe(1);
  expect(failed.output).toMatch(/packages: npm ci failed \(exit 1\)\n$/);
  await rm(join(repository.folder, "npm-fails"));
  expect((await repository.run("say.ts", "hello")).code).toBe(0);
});

test("redis-server is looked for before the packages are downloaded", async () => {
  const repository = await newRepository();
  const env = { REDIS_SERVER: "no-such-server", PATH: join(repository.folder, "bin") };
  const { code, output } = await repository.runWith(env, "--redis", "say.ts", "hello");
  expect(code).toBe(1);
  expect(output).toMatch(/^no-such-server is not installed: /);
  await expect(repository.npmRuns()).rejects.toThrow("ENOENT");
});

test("without a home folder npm keeps its cache in the repository", async () => {
  const repository = await newRepository();
  await repository.runWith({ HOME: "/nonexistent" }, "say.ts");
  const cache = await readFile(join(repository.folder, "npm-cache"), "utf8");
  expect(cache).toBe(`${join(repository.folder, ".trimtab/npm-cache")}\n`);
});

test("the script's exit code, or the signal that ended it, is passed on", async () => {
  const repository = await newRepository();
  await repository.write("exit.ts", "process.exit(7);");
  await repository.write("die.ts", "process.kill(process.pid, 'SIGKILL');");
  expect(await repository.run("exit.ts")).toMatchObject({ code: 7, signal: null });
  expect(await repository.run("die.ts")).toMatchObject({ code: null, signal: "SIGKILL" });
});

test("an interrupt reaches the script once, however often it arrives, and the script may take time to end", async () => {
  const repository = await newRepository();
  await repository.write(
    "wait.ts",
    `process.on("SIGINT", () => {
       console.log("interrupted");
       setTimeout(() => process.exit(5), 300);
     });
     setInterval(() => {}, 1000);
     console.log("ready");`,
  );
  const child = repository.start(["wait.ts"]);
  const result = resultOf(child);
  await new Promise<void>((resolve) => {
    child.stdout?.on("data", (data: Buffer) => {
      if (data.toString().includes("ready")) resolve();
    });
  });
  child.kill("SIGINT");
  child.kill("SIGINT");
  const { code, output } = await result;
  expect(code).toBe(5);
  expect(output.match(/interrupted/g)).toHaveLength(1);
});

test("without a script it prints its usage", async () => {
  const repository = await newRepository();
  expect(await repository.run()).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^usage:/) as string,
  });
});
