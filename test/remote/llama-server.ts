/** A real llama.cpp server, from the Python package xllamacpp (a binary wheel). */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { installPythonTools } from "../../infra/stack/python-tools.ts";

const VERSION = "2026.10.11549";
const START_MS = 120_000;
const PROGRAM = `
import signal, sys
from xllamacpp import CommonParams, Server, ggml_type, llama_flash_attn_type
p = CommonParams()
p.model.path = sys.argv[1]
p.hostnames = ["127.0.0.1"]
p.port = int(sys.argv[2])
p.n_parallel = int(sys.argv[3])
p.n_ctx = int(sys.argv[4]) * p.n_parallel
p.cpuparams.n_threads = int(sys.argv[5])
p.cpuparams_batch.n_threads = int(sys.argv[5])
if sys.argv[6] == "float32":
    p.cache_type_k = p.cache_type_v = ggml_type.GGML_TYPE_F32
    p.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
# The copies of idle slots in memory would take time in every call.
p.cache_ram_mib = 0
p.cache_idle_slots = False
server = Server(p)
signal.pause()
`;

export interface LlamaServerOptions {
  /** GGUF file. */
  readonly model: string;
  /** Sequences at once, and the context of each. */
  readonly slots: number;
  readonly contextTokens: number;
  /** Its threads wait for each other in busy loops: beside other processes one, the default, is faster than two. */
  readonly threads?: number;
  /**
   * Form of keys and values. In float32, the default, the logits are those of a local run within 1e-3; in float16, llama.cpp's own
   * default, they are off by 4e-3.
   */
  readonly cache?: "float32" | "float16";
}

export interface LlamaServer {
  readonly child: Child;
  readonly url: string;
}

/** Starts a server. It ends with `stopAllChildren`. */
export async function startLlamaServer(options: LlamaServerOptions): Promise<LlamaServer> {
  const programs = installPythonTools(`xllamacpp-${VERSION}`, [`xllamacpp==${VERSION}`]);
  const script = join(programs, "../server.py");
  writeFileSync(script, PROGRAM);
  const port = await freePort();
  const { model, slots, contextTokens, threads = 1, cache = "float32" } = options;
  const child = new Child({
    name: "llama.cpp",
    command: join(programs, "python"),
    args: [script, model, ...[port, slots, contextTokens, threads, cache].map(String)],
  });
  const url = `http://127.0.0.1:${port}`;
  await child.waitForUrl(`${url}/health`, START_MS);
  return { child, url };
}
