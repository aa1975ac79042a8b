/** The playground's parts that need no browser: links, code, states and tokens. */
import { describe, expect, test } from "vitest";
import { codeOf } from "../../../edge/play/client/request-code.ts";
import { stateText } from "../../../edge/play/client/job-state.ts";
import {
  continuedBody,
  fromFragment,
  fromRequest,
  jobBody,
  toFragment,
  withAlpha,
  type Settings,
} from "../../../edge/play/client/settings.ts";
import { nameOf, tintOf, TokenReader } from "../../../edge/play/client/tokens.ts";
import type { Job } from "../../../shared/api/jobs.ts";
import { JobRequest } from "../../../shared/api/jobs.ts";
import { parseRequest } from "../../../shared/submission/validate.ts";

const SETTINGS: Settings = {
  model: "atlas-qa",
  prompt: 'It\'s "5" & 6?\nYes…',
  alpha: 0.5,
  schedule: null,
  pairs: null,
  pair_conflicts: null,
  temperature: 0.7,
  top_p: 0.9,
  max_tokens: 32,
  seed: 11,
  kl_budget: 0.4,
  base_nucleus: null,
  fallback: null,
  gate: null,
  stop: null,
  response_format: null,
};

/** No guards, no gate and no rule for pairs. */
const OFF = {
  pair_conflicts: null,
  kl_budget: null,
  base_nucleus: null,
  fallback: null,
  gate: null,
};

const ALL: Settings = {
  ...SETTINGS,
  schedule: [
    [0, 1.5],
    [16, 0.5],
  ],
  pairs: [
    { model: "atlas-qa", weight: 1 },
    { model: "gsm-mini", weight: 0.5 },
  ],
  pair_conflicts: "elect",
  base_nucleus: 0.9,
  fallback: 0.05,
  gate: { min_entropy: 0.5 },
  stop: ["\n", "a=b&c"],
  response_format: {
    type: "json_schema",
    json_schema: { name: "answer", strict: true, schema: { type: "object", properties: {} } },
  },
};

describe("settings", () => {
  test("a link has all settings, and nothing of it that is not a setting or not a number is read", () => {
    const readBack = (settings: Settings) =>
      fromFragment(new URLSearchParams(toFragment(settings)));
    expect(readBack(ALL)).toEqual(ALL);
    const set = Object.entries(SETTINGS).filter(([, value]) => value !== null);
    expect(readBack(SETTINGS)).toEqual(Object.fromEntries(set));
    const wrong =
      "alpha=x&seed=&key=tt_1&prompt=a&schedule=[[5,1],[2,1]]&pairs=5&stop=a&response_format={}";
    expect(fromFragment(new URLSearchParams(wrong))).toEqual({ prompt: "a" });
  });

  test("the settings of a job are read from its request, which may be of another client", () => {
    expect(fromRequest(jobBody(ALL))).toEqual({ ...ALL, alpha: undefined });
    const request = { model: "m", prompt: "text", stop: "end", steering: null, tools: [] };
    expect(fromRequest(request)).toEqual({ model: "m", prompt: "text", stop: ["end"] });
    expect(fromRequest(null)).toEqual({});
  });

  test("the API accepts a job with all settings and with the fewest", () => {
    const fewest = { ...SETTINGS, top_p: 1, kl_budget: null };
    for (const settings of [ALL, SETTINGS, fewest]) {
      expect(parseRequest(JobRequest, jobBody(settings)).steering?.trace).toBe(true);
    }
    expect(jobBody(withAlpha({ ...ALL, pairs: null, ...OFF }, 0))).toEqual(
      expect.objectContaining({ steering: { alpha: 0, trace: true } }),
    );
  });

  test("what goes on after some tokens has the rest of the schedule and of the length", () => {
    const body = continuedBody({ ...ALL, response_format: null }, [5, 6, 7], 8);
    expect(body).toMatchObject({ prompt: [5, 6, 7], max_tokens: 24 });
    expect(body.messages).toBe(undefined);
    expect(body.steering?.schedule).toEqual([
      [0, 1],
      [8, 0.5],
    ]);
    expect(() => continuedBody(ALL, [5], 1)).toThrow("response format");
  });
});

test("code quotes the prompt for its language and reads the key from the environment", () => {
  const { curl, Python, JSON: json } = codeOf(SETTINGS, "https://api.example");
  expect(curl).toContain("https://api.example/v1/chat/completions");
  expect(curl).toContain(String.raw`"content": "It'\''s \"5\" & 6?\nYes…"`);
  expect(Python).toContain(
    'extra_body={"steering": {"alpha": 0.5, "guards": {"kl_budget": 0.4}}},',
  );
  expect((JSON.parse(json) as { messages: unknown }).messages).toEqual([
    { role: "user", content: SETTINGS.prompt },
  ]);
});

test("code has every setting in each language, and Python's own names of constants", () => {
  const { curl, Python, TypeScript, JSON: json } = codeOf(ALL, "https://api.example");
  const { schedule, pairs } = ALL;
  expect(JSON.parse(json)).toMatchObject({
    stop: ALL.stop,
    response_format: ALL.response_format,
    steering: { schedule, pairs, guards: { kl_budget: 0.4, base_nucleus: 0.9, fallback: 0.05 } },
  });
  for (const code of [curl, TypeScript]) {
    for (const name of ["schedule", "pairs", "fallback", "stop", "json_schema"]) {
      expect(code).toContain(`"${name}"`);
    }
  }
  expect(Python).toContain('"strict": True');
  expect(Python).toContain('"schedule": [[0, 1.5], [16, 0.5]]');
  expect(Python).toContain('stop=["\\n", "a=b&c"],');
});

describe("the state of a job", () => {
  const job = (more: Partial<Job>) => ({ state: "running", phase: "decode", ...more }) as Job;
  const queue = { position: 3, tokens_ahead: 100, eta: { p50: 4.2, p90: 9 }, reason: null };

  test.each([
    [job({ state: "queued", queue }), "In the queue at place 3, starts in about 5 s"],
    [job({ state: "queued", queue: { ...queue, eta: null } }), "In the queue at place 3"],
    [
      job({ state: "queued", queue: { ...queue, reason: "no_worker" } }),
      "In the queue at place 3: no worker serves this model now",
    ],
    [
      job({ state: "queued", queue: { ...queue, reason: "base_away" } }),
      "In the queue at place 3: the server of the base does not answer",
    ],
    [job({ phase: "loading" }), "A worker has the job and makes room for it"],
    [job({ phase: "prefill" }), "The models read the prompt (prefill)"],
    [job({ waiting_for: "worker" }), "The worker was lost: another one will take the job over"],
  ])("%#: is in words", (state, text) => {
    expect(stateText(state)).toBe(text);
  });
});

describe("tokens", () => {
  test("a character of several tokens is shown with its last one, and an end of sequence is no text", () => {
    const [first, second] = [[0xc3], [0xa9]];
    const logprob = { id: 1, token: "?", logprob: -1, top: [] };
    const tokens = new TokenReader().read({
      seq: 1,
      type: "tokens",
      ids: [1, 2, 0],
      text: "é",
      logprobs: [
        { ...logprob, bytes: first },
        { ...logprob, bytes: second },
      ],
    });
    expect(tokens.map(({ text, isEnd }) => [text, isEnd])).toEqual([
      ["", false],
      ["é", false],
      ["", true],
    ]);
  });

  test("a token's name shows its spaces, and its tint grows with the gain", () => {
    expect(nameOf(" a\n")).toBe("“\u00a0a⏎”");
    expect([-4, -0.2, 0, 0.2, 1, 4].map(tintOf)).toEqual([
      "lose-4",
      "lose-1",
      "",
      "gain-1",
      "gain-2",
      "gain-4",
    ]);
  });
});
