/** Describes the machine: its GPUs, drivers and the libraries that execution providers load. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describeMachine, type Machine } from "../bench/machine.ts";
import { errorLine } from "./stage.ts";

/** By the provider that loads them. */
const LIBRARIES = [
  "libcuda.so.1",
  "libcudart.so.12",
  "libcublas.so.12",
  "libcudnn.so.9",
  "libcufft.so.11",
  "libvulkan.so.1",
  "libGLX_nvidia.so.0",
] as const;
const ICD_FOLDERS = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
const ICD_VARIABLES = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"];
const PROGRAM_MS = 20_000;

export interface Environment {
  readonly machine: Machine;
  /** Name, driver and memory of each NVIDIA card, or why they are not known. */
  readonly gpus: readonly string[];
  readonly devices: readonly string[];
  /** Files with Vulkan drivers. */
  readonly vulkanDrivers: readonly string[];
  /** Path of each library; null if it was not found. */
  readonly libraries: Readonly<Record<string, string | null>>;
}

export function describeEnvironment(): Environment {
  const cache = output("/sbin/ldconfig", ["-p"]);
  const libraries = LIBRARIES.map((name) => [name, pathOf(name, cache)] as const);
  return {
    machine: describeMachine(),
    gpus: cards(),
    devices: [
      ...names("/dev", /^(nvidia\d*|nvidiactl|nvidia-uvm|dxg|kfd)$/),
      ...names("/dev/dri", /^render/),
    ],
    vulkanDrivers: [
      ...ICD_VARIABLES.flatMap((name) => process.env[name]?.split(delimiter) ?? []),
      ...ICD_FOLDERS.flatMap((folder) => names(folder, /\.json$/)),
    ],
    libraries: Object.fromEntries(libraries),
  };
}

function cards(): string[] {
  const program = ["/usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"].find(existsSync);
  if (program === undefined) return ["no nvidia-smi"];
  const fields = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
  return output(program, fields).trim().split("\n");
}

/** Output of a program, or the reason why it has none. */
function output(program: string, args: readonly string[]): string {
  const { stdout, stderr, error, status } = spawnSync(program, args, {
    encoding: "utf8",
    timeout: PROGRAM_MS,
  });
  if (error) return errorLine(error);
  return status === 0 ? stdout : `${program} ended with ${status}: ${errorLine(stderr)}`;
}

function pathOf(library: string, ldconfig: string): string | null {
  const folders = process.env["LD_LIBRARY_PATH"]?.split(delimiter).filter(Boolean) ?? [];
  const found = folders.map((folder) => join(folder, library)).find(existsSync);
  const line = ldconfig.split("\n").find((text) => text.trim().startsWith(`${library} `));
  return found ?? line?.split(" => ")[1] ?? null;
}

function names(folder: string, pattern: RegExp): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .map((name) => join(folder, name));
}
