/** The APIs of remote bases, by their name in the manifest. */
import type { BaseApi } from "../api.ts";
import { llamaCpp } from "./llama-cpp.ts";
import { sglang } from "./sglang.ts";
import { vllm } from "./vllm.ts";

export const BASE_APIS = ["llama.cpp", "vllm", "sglang"] as const;

export interface ApiOptions {
  /** The model's name in requests. */
  readonly model: string;
  /** Most likely tokens of a row. */
  readonly top: number;
  /** A token whose text is whole characters, for a server that must draw such a one; null if none is known. */
  readonly wholeToken: number | null;
}

export function baseApi(
  name: (typeof BASE_APIS)[number],
  { model, top, wholeToken }: ApiOptions,
): BaseApi {
  switch (name) {
    case "llama.cpp":
      return llamaCpp(wholeToken);
    case "vllm":
      return vllm(model, top);
    case "sglang":
      return sglang();
  }
}
