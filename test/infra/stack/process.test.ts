/** Child processes never outlive their parent, and the error of a failed start gives the reason. */
import { once } from "node:events";
import { spawn } from "node:child_process";
import { expect, test } from "vitest";
import { Child, stopAllChildren } from "../../../infra/stack/process.ts";
import { newMark, type ProcessMark } from "../../support/marked-processes.ts";

const PROCESS_MODULE = new URL("../../../infra/stack/process.ts", import.meta.url).href;

function shell(
  script: string,
  options: { env?: ProcessMark["env"]; graceMs?: number } = {},
): Child {
  return new Child({ name: "shell", command: "sh", args: ["-c", script], ...options });
}

test("when a child is stopped, the processes that it started end too", async () => {
  const { env, living, gone } = newMark();
  const child = shell("sleep 600 & sleep 600", { env });
  await expect.poll(() => living()).toHaveLength(3);
  await child.stop();
  await gone();
});

test("when a child ends, the processes that it started end too", async () => {
  const { env, gone } = newMark();
  const child = shell("sleep 600 & echo done; exit 3", { env });
  expect(await child.exited).toEqual({ code: 3, signal: null });
  expect(child.lastLines).toBe("done");
  await gone();
});

test("a child that ignores SIGTERM is killed after its grace time", async () => {
  const child = shell("trap '' TERM; echo deaf; while :; do sleep 600; done", { graceMs: 200 });
  await child.waitFor("its output", 5_000, () => child.lastLines === "deaf");
  await child.stop();
  expect(await child.exited).toEqual({ code: null, signal: "SIGKILL" });
});

test("all children can be stopped together", async () => {
  const { env, gone } = newMark();
  const children = [1, 2, 3].map(() => shell("sleep 600", { env }));
  await stopAllChildren();
  expect(children.every((child) => !child.running)).toBe(true);
  await gone();
});

test("children end even if their parent is killed", async () => {
  const { env, living, gone } = newMark();
  const start = `
    import { Child } from ${JSON.stringify(PROCESS_MODULE)};
    const args = ["-c", "sleep 600 & sleep 600"];
    new Child({ name: "shell", command: "sh", args });
    setInterval(() => {}, 1000);
  `;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", start], {
    env: { ...process.env, ...env },
  });
  // The parent, the shell that guards the group, and three processes of the child.
  await expect.poll(() => living(), { timeout: 10_000 }).toHaveLength(5);
  parent.kill("SIGKILL");
  await once(parent, "exit");
  await gone();
});

test("if a child ends before it is ready, the error says how it ended and shows its last output", async () => {
  const child = shell("echo starting; echo no such file >&2; exit 2");
  await expect(child.waitFor("readiness", 5_000, () => false)).rejects.toThrow(
    "shell ended with exit code 2 before it was ready; its last output:\nstarting\nno such file",
  );
});

test("if a child is not ready before the deadline, it is stopped, and the error shows its last output", async () => {
  const child = shell("echo thinking; sleep 600");
  await expect(child.waitForUrl("http://127.0.0.1:1/readyz", 500)).rejects.toThrow(
    "shell: waited 0.5 s for http://127.0.0.1:1/readyz to answer 200; its last output:\nthinking",
  );
  expect(child.running).toBe(false);
});

test("the error names a command that does not exist", async () => {
  const child = new Child({ name: "ghost", command: "no-such-command", args: [] });
  await expect(child.waitFor("anything", 5_000, () => false)).rejects.toThrow(
    "ghost could not be started: spawn no-such-command ENOENT",
  );
});
