/** Compiling response formats on another thread (server/format-compiler.ts). */
import type { CompiledRules } from "../../shared/submission/output-grammars.ts";

/** @param json of `CompileRules` */
export type CompileElsewhere = (json: string) => Promise<DoneElsewhere<CompiledRules>>;

/** The end of work on another thread: the processor time that it took, and its result, or the error that it throws. */
export interface DoneElsewhere<T> {
  readonly spentMs: number;
  readonly result: () => T;
}
