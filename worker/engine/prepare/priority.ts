/** The priority of the prepare thread. */
import { readlinkSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { lowerThreadPriority } from "../../../shared/threads/priority.ts";

/**
 * With a busy loop on each of two cores and a load of 8, in turns with nice 0, 5 and 10, a text of 1,741 tokens took 31, 50 and 197 ms,
 * in a second round 13, 20 and 88 ms. With nice 10 the slowest took 1.3 s, with nice 5 0.25 s; a request for a tokenizer fails after 5 s.
 */
const NICE = 5;

/** @returns why it could not be lowered, if a sandbox denies it */
export const lowerPriority = (): string[] =>
  lowerThreadPriority("prepare", NICE, { readlinkSync, getPriority, setPriority });
