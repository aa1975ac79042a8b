/** The state that a generating process hands to the one that takes its place. */
import { join } from "node:path";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { GeneratingProcess } from "../../../worker/processes/generating-process.ts";

const program = join(import.meta.dirname, "../../support/kept-text.ts");

/** Starts a process that keeps this text, and kills it. @returns the text that the next one which starts has got */
async function textAfterLoss(kept: string): Promise<string | null> {
  const generating = new GeneratingProcess({
    program,
    env: { KEPT: kept },
    log: pino({ level: "silent" }),
    hangSeconds: 60,
    onCannotStart: () => expect.unreachable(),
  });
  onTestFinished(async () => {
    await generating.close();
    await generating.end();
  });
  await generating.ready();
  const state = async () => {
    const { problem } = await generating.state(false);
    return problem?.startsWith("{")
      ? (JSON.parse(problem) as { pid: number; text: string | null })
      : null;
  };
  const first = await state();
  expect(first?.text).toBeNull();
  process.kill(first!.pid, "SIGKILL");
  let next = first;
  await expect
    .poll(async () => (next = await state())?.pid ?? first!.pid, { timeout: 10_000 })
    .not.toBe(first!.pid);
  return next!.text;
}

test("a process that is lost has a replacement that gets what it has kept", async () => {
  expect(await textAfterLoss("manifest")).toBe("manifest".padStart(200_000));
});

test("a replacement that cannot start with it is started without", async () => {
  expect(await textAfterLoss("broken")).toBeNull();
});
