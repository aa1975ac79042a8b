/** The entry of the thread that compiles response formats (format-compiler.ts). Several are compiled in turns, part by part. */
import * as fs from "node:fs";
import * as os from "node:os";
import { parentPort } from "node:worker_threads";
import { parseSource } from "../../shared/api/json-source.ts";
import { inTurns } from "../../shared/grammar/rules/parts.ts";
import { refusalOf } from "../../shared/submission/refusal.ts";
import { lowerThreadPriority } from "../../shared/threads/priority.ts";
import { outputRulesParts, type OutputRules } from "../../shared/tools/grammar.ts";
import type { CompileReply, CompileRequest, FromCompileThread } from "./format-compiler.ts";

const port = parentPort!;

// As that of a worker's prepare thread: streams come first, and formats still get their share of a busy machine.
for (const warning of lowerThreadPriority("compile", { fs, os })) {
  port.postMessage({ warning } satisfies FromCompileThread);
}

/** Processor time of this thread, in ms. */
const threadTime = () => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};

port.on("message", ({ id, rules }: CompileRequest) => {
  void compile(rules).then((reply) => port.postMessage({ id, ...reply } satisfies CompileReply));
});

async function compile(json: string): Promise<Omit<CompileReply, "id">> {
  let spentMs = 0;
  const timed = <P>(part: () => P): P => {
    const startMs = threadTime();
    try {
      return part();
    } finally {
      spentMs += threadTime() - startMs;
    }
  };
  try {
    const rules = timed(() => parseSource(json)) as OutputRules;
    const grammar = await inTurns(outputRulesParts(rules), timed);
    // As text: the other thread reads it faster than a copy of its objects.
    const text = timed(() => JSON.stringify(grammar));
    return { spentMs, grammar: text };
  } catch (error) {
    const refusal = refusalOf(error);
    return refusal
      ? { spentMs, refusal }
      : { spentMs, failure: error instanceof Error ? (error.stack ?? "") : String(error) };
  }
}
