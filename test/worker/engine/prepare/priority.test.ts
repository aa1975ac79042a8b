/** A thread that may not change its priority. */
import { setPriority } from "node:os";
import { expect, test, vi } from "vitest";
import { lowerPriority } from "../../../../worker/engine/prepare/priority.ts";

vi.mock("node:os", () => ({
  getPriority: () => 0,
  setPriority: vi.fn<() => void>(() => {
    throw new Error("setPriority returned EPERM");
  }),
}));

test.runIf(process.platform === "linux")("a sandbox that denies it is a warning", () => {
  expect(lowerPriority()).toEqual([
    "The prepare thread keeps its priority: setPriority returned EPERM",
  ]);
  expect(setPriority).toHaveBeenCalledOnce();
});
