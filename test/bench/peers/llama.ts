/** llama.cpp through node-llama-cpp. */
import type { Subject, SubjectOptions } from "../subjects/subject.ts";

export async function loadLlama(_options: SubjectOptions): Promise<Subject> {
  throw new Error("not made yet");
}
