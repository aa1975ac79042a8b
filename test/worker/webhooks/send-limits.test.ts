import { expect, test } from "vitest";
import { SendLimits, SENDS_MAX } from "../../../worker/webhooks/send-limits.ts";

/** Begins all sends that the tenant may have. @returns how many that were */
function beginAll(limits: SendLimits, tenant: string): number {
  let begun = 0;
  while (limits.tryBegin(tenant)) begun++;
  return begun;
}

test("tenants that begin all sends they may have leave some for every other tenant", () => {
  const limits = new SendLimits();
  expect(beginAll(limits, "first")).toBe(16);
  let running = 16;
  for (let i = 0; i < 20; i++) running += beginAll(limits, `hanging-${i}`);
  expect(running).toBeLessThan(SENDS_MAX);
  expect(beginAll(limits, "other")).toBeGreaterThan(0);
});

test("a tenant may have one send as long as any is free, and one that has ended makes room", () => {
  const limits = new SendLimits();
  for (let i = 0; i < SENDS_MAX; i++) expect(limits.tryBegin(`tenant-${i}`)).toBe(true);
  expect(limits.tryBegin("tenant-0")).toBe(false);
  limits.ended("tenant-0");
  expect(limits.hasRoom("tenant-1")).toBe(false);
  expect(limits.tryBegin("tenant-0")).toBe(true);
});
