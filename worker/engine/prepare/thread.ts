/**
 * The prepare thread's entry point: generations in, prepared generations out. Tokenizing and compiling take as long as the
 * sender of a request wants, up to the bounds that are checked first, so they run here and not on the engine thread, where
 * they would delay the tokens of all other requests. The folder prepare/ owns everything that happens to a generation before
 * the engine thread gets it. It runs no model, and knows no decode loop and no Redis.
 *
 * Questions for the tokenizers themselves are answered here too, in the same turns.
 *
 * A generation is prepared at once and not in parts. Tenants take turns (turns.ts), and messages are read between two
 * generations.
 */
import * as fs from "node:fs";
import * as os from "node:os";
import { setImmediate } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../../../shared/api/errors.ts";
import { lowerThreadPriority } from "../../../shared/threads/priority.ts";
import type {
  EngineOptions,
  FromPrepare,
  PrepareRequest,
  TokenizeRequest,
  ToPrepare,
} from "../../engine-client/messages.ts";
import { readText } from "../model/json-file.ts";
import { readManifest } from "../model/manifest.ts";
import { CompiledGrammars } from "./compiled-grammars.ts";
import { ServedEnsembles } from "./served-ensembles.ts";
import { prepare } from "./prepare.ts";
import { PromptCache } from "./prompt-cache.ts";
import { answerQuestion } from "./tokenize.ts";
import { Turns } from "./turns.ts";

/** Holds two prompts of the longest contexts (a million tokens), or thousands of usual ones. */
const PROMPT_CACHE_BYTES_MAX = 16 * 2 ** 20;

const port = parentPort!;
const send = (message: FromPrepare) => port.postMessage(message);
const { manifestFile, manifestText: givenText } = workerData as EngineOptions;

try {
  const warnings = lowerThreadPriority("prepare", { fs, os });
  const manifestText = givenText ?? readText(manifestFile);
  const served = new ServedEnsembles(readManifest(manifestFile, manifestText));
  const preparing = {
    ensembles: served.tokenizers,
    prompts: new PromptCache(PROMPT_CACHE_BYTES_MAX),
    grammars: new CompiledGrammars(),
  };
  const turns = new Turns<PrepareRequest | TokenizeRequest>();
  let working = false;
  const work = async () => {
    working = true;
    for (let next = turns.next(); next; next = turns.next()) {
      try {
        send(
          next.type === "prepare"
            ? { type: "prepared", run: next.run, prepared: prepare(preparing, next) }
            : {
                type: "tokenized",
                run: next.run,
                answer: answerQuestion(preparing.ensembles, next),
              },
        );
      } catch (error) {
        const code = error instanceof AppError ? error.code : "internal";
        send({ type: "failed", run: next.run, code, message: errorMessage(error) });
      }
      // Lets the messages in that have arrived meanwhile.
      await setImmediate();
    }
    working = false;
  };
  port.on("message", (message: ToPrepare) => {
    if (message.type === "exit") process.exit();
    if (message.type === "drop") turns.remove(({ run }) => run === message.run);
    else if (message.type === "readManifest") send(readAgain(served));
    else if (message.type === "remove") served.remove(message.ids);
    else {
      turns.add(message.tenant, message);
      if (!working) void work();
    }
  });
  send({ type: "ready", manifestText, warnings });
} catch (error) {
  send({ type: "startFailed", reason: errorMessage(error) });
}

function readAgain(served: ServedEnsembles): FromPrepare {
  try {
    const text = readText(manifestFile);
    const { ids, added, removed } = served.follow(readManifest(manifestFile, text));
    return {
      type: "manifestRead",
      ids,
      text,
      added: { ids: added.map(({ id }) => id), entries: JSON.stringify(added) },
      removed,
    };
  } catch (error) {
    return { type: "manifestRefused", reason: errorMessage(error) };
  }
}

function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
