/** The choice of a remote base's drafter from measured times and shares, without a clock. */
import { beforeEach, describe, expect, test } from "vitest";
import { CallCost } from "../../../../worker/engine/loop/call-cost.ts";
import { MARGIN_MAX } from "../../../../worker/engine/loop/draft-margins.ts";
import { BaseLoad } from "../../../../worker/engine/loop/remote-load.ts";
import { DraftPolicy, type Choices } from "../../../../worker/engine/loop/remote-policy.ts";

const CHOICES: Choices = {
  rowsMax: 8,
  tokensLeft: 48,
  found: [],
  hasExpert: true,
  ready: 0,
  canStream: true,
  canLead: true,
  lists: "plain",
  contextTokens: 0,
  promptsFilled: 1,
  tokensTaken: 0,
};
const ROWS_ONLY = { ...CHOICES, canStream: false, canLead: false };

/** A server: a call takes the latency, a step, and a part for each token that it computes. */
interface Server {
  readonly latencyMs: number;
  readonly stepMs: number;
  readonly tokenMs: number;
  /** Tokens of each row of a call with so many drafts. */
  readonly computed?: (drafts: number) => readonly number[];
}

/** A processor: a token costs as much as the rest of a step. */
const SLOW_TOKENS = { stepMs: 20, tokenMs: 20 };
/** An accelerator: rows are as good as free. */
const FREE_TOKENS = { stepMs: 20, tokenMs: 0.1 };
/** Each draft has a prompt of its own, with a cache that lacks what was accepted last. */
const manyPrompts = (drafts: number) => Array.from({ length: drafts + 1 }, () => drafts + 1);
const onePrompt = (drafts: number) => Array.from({ length: drafts + 1 }, () => 1);

let load: BaseLoad;
let policy: DraftPolicy;

beforeEach(() => {
  load = new BaseLoad();
  load.sequences = 1;
  policy = new DraftPolicy(load, null);
});

function callRows({ latencyMs, stepMs, tokenMs, computed = onePrompt }: Server, drafts: number) {
  const tokens = computed(drafts);
  const sum = tokens.reduce((total, count) => total + count, 0);
  load.recordCall(latencyMs + stepMs + tokenMs * sum, drafts + 1, tokens);
}

function streamSteps({ latencyMs, stepMs, tokenMs }: Server, steps: number) {
  const atOnce = load.begin(1);
  load.recordCall(latencyMs + stepMs + tokenMs, atOnce, null);
  for (let i = 1; i < steps; i++) load.recordStep(stepMs + tokenMs);
  load.end(1);
}

/** Does what the policy chooses, and returns the last choice. */
function follow(server: Server, choices: Choices, calls = 60) {
  for (let i = 0; i < calls; i++) {
    const plan = policy.choose(choices);
    if (plan.streamed > 0) streamSteps(server, Math.min(6, plan.streamed));
    else callRows(server, plan.drafts + plan.found.length);
  }
  return policy.choose(choices);
}

/** Shares of right drafts. */
function observeShares({ expert, base }: { readonly expert: number; readonly base: number }) {
  for (let i = 0; i < 200; i++) {
    const draft = { isRight: (i % 10) / 10 < expert, margin: MARGIN_MAX };
    policy.observe(draft, null, ((i * 3) % 10) / 10 < base);
  }
}

test.each([0, 20, 100])(
  "a server whose tokens cost time, %i ms away: one stream along the expert's drafts",
  (latencyMs) => {
    observeShares({ expert: 0.9, base: 0.6 });
    const plan = follow({ ...SLOW_TOKENS, latencyMs, computed: manyPrompts }, CHOICES);
    expect(plan).toMatchObject({ isLead: true });
    expect(plan.drafts).toBeGreaterThanOrEqual(4);
  },
);

test.each([0, 20, 100])(
  "a server whose rows are free, %i ms away: many drafts in one call",
  (latencyMs) => {
    observeShares({ expert: 0.9, base: 0.6 });
    const plan = follow({ ...FREE_TOKENS, latencyMs }, CHOICES);
    expect(plan).toMatchObject({ streamed: 0 });
    expect(plan.drafts).toBeGreaterThanOrEqual(4);
  },
);

test("an expert that is seldom right: the base's own stream", () => {
  observeShares({ expert: 0, base: 0.9 });
  const plan = follow({ ...SLOW_TOKENS, latencyMs: 20 }, CHOICES);
  expect(plan).toMatchObject({ drafts: 0, isLead: false });
  expect(plan.streamed).toBeGreaterThan(1);
});

test("the more sequences share the expert, the fewer drafts it makes beside a stream", () => {
  const most = [1, 2, 4, 5, 32].map((sequences) => {
    load.sequences = sequences;
    return load.aheadMax;
  });
  expect(most).toEqual([8, 2, 1, 0, 0]);
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, -5])(
  "a count of %d tokens leaves the measured times as they are",
  (count) => {
    for (let i = 0; i < 20; i++) load.recordCall(50, 2, [1, 1]);
    load.recordFill(100, count);
    load.recordCall(50, count, null);
    const { fixedMs, tokenMs, fillTokenMs } = load;
    expect(fixedMs).toBeGreaterThan(10);
    load.recordCall(50, 2, [1, count]);
    for (const value of [tokenMs, fillTokenMs, load.fixedMs, load.tokenMs, load.tokensFor(3)]) {
      expect(value).toBeGreaterThanOrEqual(0);
      expect(value).toBeLessThan(1000);
    }
  },
);

test("with many jobs a call has fewer rows", () => {
  observeShares({ expert: 0.8, base: 0.6 });
  const server = { latencyMs: 20, stepMs: 20, tokenMs: 2 };
  const alone = follow(server, ROWS_ONLY);
  load.sequences = 32;
  const together = policy.choose(ROWS_ONLY);
  expect(alone.drafts).toBeGreaterThanOrEqual(3);
  expect(together.drafts).toBeLessThan(alone.drafts);
});

test("drafts that are made already weigh in favour of a longer lead", () => {
  observeShares({ expert: 0.8, base: 0.6 });
  follow({ ...SLOW_TOKENS, latencyMs: 20 }, CHOICES);
  for (let i = 0; i < 40; i++) policy.recordDraft(40);
  const none = policy.choose(CHOICES);
  const ready = policy.choose({ ...CHOICES, ready: 8 });
  expect(ready.drafts).toBeGreaterThan(none.drafts);
});

test("drafts of the text lead a stream where no expert drafts", () => {
  const found = [1, 2, 3, 4, 5, 6];
  for (let i = 0; i < 40; i++) policy.observe(null, true, false);
  const choices = { ...CHOICES, hasExpert: false, found };
  const plan = follow({ ...SLOW_TOKENS, latencyMs: 20, computed: manyPrompts }, choices);
  expect(plan).toMatchObject({ drafts: 0, isLead: true });
  expect(found.join()).toContain(plan.found.join());
  expect(plan.found.length).toBeGreaterThanOrEqual(3);
});

describe("a lead and its doubtful drafts", () => {
  const DOUBTFUL = 0.5;

  /** A stream that is left delays the next call by 60 ms. */
  function leaveStreams(latencyMs: number) {
    const callMs = latencyMs + 40;
    for (let i = 0; i < 20; i++) {
      streamSteps({ latencyMs, stepMs: 38, tokenMs: 2 }, 6);
      load.recordLate(callMs + 60, 1);
    }
    expect(Math.abs(load.leftMs - 60)).toBeLessThan(8);
    expect(Math.abs(load.fixedMs + load.tokenMs - callMs)).toBeLessThan(8);
  }

  function observeDoubtful(right: number) {
    for (let i = 0; i < 200; i++) {
      const isDoubtful = i % 10 === 0;
      const isRight = !isDoubtful || (i / 10) % 10 < right * 10;
      policy.observe({ isRight, margin: isDoubtful ? DOUBTFUL : MARGIN_MAX }, null, i % 2 === 0);
    }
  }

  test("it ends before one that is seldom right, because a stream that is left costs more than a call", () => {
    observeDoubtful(0.2);
    leaveStreams(10);
    expect(policy.isSure(MARGIN_MAX)).toBe(true);
    expect(policy.isSure(DOUBTFUL)).toBe(false);
  });

  test("it goes on if they are right after all", () => {
    observeDoubtful(1);
    leaveStreams(10);
    expect(policy.isSure(DOUBTFUL)).toBe(true);
  });

  test("it goes on where calls cost more than a stream that is left", () => {
    observeDoubtful(0.3);
    leaveStreams(300);
    expect(policy.isSure(DOUBTFUL)).toBe(true);
  });
});

test("an outage while a call waits after a left stream counts as little as any slow call", () => {
  const server = { latencyMs: 10, stepMs: 38, tokenMs: 2 };
  for (let i = 0; i < 20; i++) streamSteps(server, 6);
  load.recordLate(60_000, 1);
  expect(load.leftMs).toBeLessThan(100);
  for (let i = 0; i < 10; i++) {
    streamSteps(server, 6);
    load.recordLate(50 + 60, 1);
  }
  expect(Math.abs(load.leftMs - 60)).toBeLessThan(10);
  expect(Math.abs(load.fixedMs + load.tokenMs - 50)).toBeLessThan(10);
});

test("after many calls for rows a stream is tried again", () => {
  observeShares({ expert: 0.9, base: 0.3 });
  const server = { ...FREE_TOKENS, latencyMs: 20 };
  follow(server, CHOICES, 10);
  const streams = Array.from({ length: 100 }, () => follow(server, CHOICES, 1)).filter(
    ({ streamed }) => streamed > 0,
  );
  expect(streams.length).toBeGreaterThanOrEqual(2);
  expect(streams.length).toBeLessThanOrEqual(10);
});

test("caches are filled only for an output that is long enough to pay for it", () => {
  observeShares({ expert: 0.9, base: 0.3 });
  const server = { stepMs: 20, tokenMs: 1, latencyMs: 20 };
  const choices = { ...ROWS_ONLY, contextTokens: 1000, tokensLeft: 1000 };
  expect(follow(server, choices).drafts).toBe(0);
  expect(policy.choose({ ...choices, tokensTaken: 500 }).drafts).toBeGreaterThanOrEqual(3);
  expect(policy.choose({ ...choices, promptsFilled: 8 }).drafts).toBeGreaterThanOrEqual(3);
});

test("the time of a prompt tells the time of a row before any row was drafted", () => {
  observeShares({ expert: 0.9, base: 0.3 });
  load.recordCall(60, 1, [1]);
  const before = policy.choose(ROWS_ONLY);
  for (let i = 0; i < 3; i++) load.recordFill(8_060, 200);
  expect(policy.choose(ROWS_ONLY).drafts).toBeLessThan(before.drafts);
});

describe("the cost of a call", () => {
  test("one call that takes fifty times as long as the others changes the choice for a few calls", () => {
    observeShares({ expert: 0.9, base: 0.3 });
    const server = { ...FREE_TOKENS, latencyMs: 0 };
    const before = follow(server, ROWS_ONLY);
    load.recordCall(1000, 8, onePrompt(7));
    expect(follow(server, ROWS_ONLY, 8).drafts).toBeGreaterThanOrEqual(before.drafts - 1);
  });

  test("calls of two sizes tell constant and token apart; calls of one size keep them", () => {
    const cost = new CallCost();
    for (let i = 0; i < 40; i++) cost.record(30 + 5 * (i % 2 ? 1 : 9), i % 2 ? 1 : 9);
    expect(cost.fixedMs).toBeCloseTo(30, -1);
    expect(Math.abs(cost.tokenMs - 5)).toBeLessThan(1);
    for (let i = 0; i < 20; i++) cost.record(35, 1);
    expect(cost.fixedMs + cost.tokenMs).toBeCloseTo(35, 0);
    expect(cost.tokenMs).toBeGreaterThan(3);
  });

  test("slow calls of any size leave both parts in bounds", () => {
    const cost = new CallCost();
    for (let i = 0; i < 200; i++) cost.record(i % 7 === 3 ? 2_000 : 50, (i * 5) % 16 || 1);
    for (let i = 0; i < 40; i++) cost.record(50, 1);
    expect(cost.fixedMs + cost.tokenMs).toBeLessThan(60);
    expect(cost.fixedMs).toBeGreaterThan(25);
  });

  test("a server that has become ten times slower is followed", () => {
    const cost = new CallCost();
    for (let i = 0; i < 40; i++) cost.record(20, 1);
    for (let i = 0; i < 30; i++) cost.record(200, 1);
    expect(cost.fixedMs + cost.tokenMs).toBeGreaterThan(150);
  });

  test("a call with drafts computes what their prompts have beyond the caches", () => {
    for (let i = 0; i < 20; i++) load.recordCall(50, 4, [4, 4, 4, 4]);
    expect(load.tokensFor(3)).toBeCloseTo(16);
    expect(load.tokensFor(0)).toBe(1);
    expect(load.tokensFor(7)).toBeCloseTo(64);
  });
});
