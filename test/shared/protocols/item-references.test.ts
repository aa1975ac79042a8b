/** References to outputs: what they cost, and which calls they find. */
import { expect, test } from "vitest";
import { referencedMessages } from "../../../shared/protocols/item-references.ts";
import { TOOL_FORMATS, writeCalls } from "../../../shared/tools/formats.ts";

const CALLS = Array.from({ length: 3 }, (_, i) => ({ name: "f", arguments: `{"a": ${i}}` }));

/** The messages of references to one output, and how often outputs were read. */
async function refer(ids: readonly string[], text: string, finish_reason: string) {
  let reads = 0;
  const outputTools = { format: "json", functions: [{ name: "f" }], choice: "auto" } as const;
  const output = {
    tenant: "t",
    state: "succeeded",
    text,
    outcome: { finish_reason },
    outputTools: { ...outputTools, parallel: true },
  } as const;
  const context = {
    principal: { tenant: "t", scopes: ["jobs:read"] },
    jobs: { output: async () => (reads++, output), record: async () => null },
  };
  const items = ids.map((id) => ({ type: "item_reference" as const, id }));
  const messages = await referencedMessages(context as never, items);
  return { reads, messages };
}

test("each output is read once, and its calls are found in its own format, also if it was cut", async () => {
  const text = writeCalls(TOOL_FORMATS.json, CALLS);
  for (const reason of ["tool_calls", "length"]) {
    const { reads, messages } = await refer(["fc_x_0", "fc_x_2", "msg_x"], text, reason);
    expect(reads).toBe(1);
    expect(Object.fromEntries(messages)).toEqual({
      fc_x_0: { role: "assistant", content: "", toolCalls: [{ id: "call_x_0", ...CALLS[0] }] },
      fc_x_2: { role: "assistant", content: "", toolCalls: [{ id: "call_x_2", ...CALLS[2] }] },
      msg_x: { role: "assistant", content: "" },
    });
  }
});

test("no further outputs are read once they are longer than a conversation may be", async () => {
  const ids = Array.from({ length: 1000 }, (_, i) => `fc_${i}_0`);
  const reply = refer(ids, "x".repeat(100_000), "stop");
  await expect(reply).rejects.toMatchObject({ code: "invalid_request", param: "input.31.id" });
});
