/** A generating process of a test: its problem is JSON of its id and the text that it got. With a text that ends with `broken` it cannot start. */
import {
  answerParentProcess,
  keepForReplacement,
  keptText,
  reportStarted,
} from "../../worker/processes/parent-process.ts";
import { CANNOT_START } from "../../worker/processes/messages.ts";

const text = await keptText();
if (text?.endsWith("broken")) process.exit(CANNOT_START);
const problem = JSON.stringify({ pid: process.pid, text });
answerParentProcess(() => Promise.resolve({ problem, away: {}, metrics: [] }));
// More than an argument or a variable may have.
keepForReplacement(process.env["KEPT"]!.padStart(200_000));
reportStarted();
