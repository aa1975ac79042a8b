/** Steering fields of a request: stored with the job, and shown in its reply. */
import { expect, test } from "vitest";
import { newTenant, store } from "../harness.ts";

test("the queued job has the schedule, the guards and the gate, and the reply shows them", async () => {
  const schedule = [
    [0, 2],
    [64, 0.25],
  ];
  const guards = { base_nucleus: 0.9, kl_budget: 2, fallback: null };
  const gate = { min_entropy: 0.5, max_margin: null };
  const base_error_max = 0.25;
  const base_error_action = "base";
  const client = await newTenant();
  const job = await client.submit({
    steering: { schedule, guards, gate, base_error_max, base_error_action },
  });
  expect((await store.record(job.id))?.generation).toMatchObject({
    alpha: 2,
    schedule,
    baseErrorMax: 0.25,
    baseErrorAction: "base",
    guards: { baseNucleus: 0.9, klBudget: 2 },
    gate: { minEntropy: 0.5 },
  });
  const steering = {
    alpha: 2,
    schedule,
    guards: { base_nucleus: 0.9, kl_budget: 2 },
    gate: { min_entropy: 0.5 },
    base_error_max,
    base_error_action,
  };
  expect(job.steering).toEqual(steering);
});
