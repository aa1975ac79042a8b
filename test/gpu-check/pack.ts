/**
 * Packs this Node, onnxruntime-node, the source files that the check imports, the demo family and the golden cases into archives of
 * at most 60 MiB each.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { createGzip } from "node:zlib";
import { build } from "esbuild";

const ROOT = join(import.meta.dirname, "../..");
const PART_BYTES_MAX = 60 * 2 ** 20;
const NAME = "gpu-check";
const ENTRIES = ["test/gpu-check/run.ts", "test/gpu-check/stage-process.ts"];
const NATIVE = `bin/napi-v6/${process.platform}/${process.arch}`;
/** Packages that are copied whole, because they load their binary at run time. */
const WHOLE = ["onnxruntime-node", "onnxruntime-common"];
const MODELS = ["base", "gsm-expert", "antiexpert"].map((name) => `infra/models/${name}`);
const VECTORS = ["llama", "qwen2", "qwen3", "gpt2", "gemma3_text", "deepseek_v3", "gqa"];
const QUESTIONS = "test/eval/data/gsm-mini.dev.jsonl";
/** With an empty PATH there is no dirname. */
const LAUNCHER = `#!/bin/sh
here="\${0%/*}"
LD_LIBRARY_PATH="\${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$here/libraries"
export LD_LIBRARY_PATH
exec "$here/node" --disable-warning=ExperimentalWarning "$here/test/gpu-check/run.ts" "$@"
`;

const { values: args } = parseArgs({
  options: {
    out: { type: "string", default: "." },
    library: { type: "string", multiple: true, default: [] },
    help: { type: "boolean", default: false },
  },
});
if (args.help) {
  console.log(
    "options: --out FOLDER (default: this one), --library FILE (may be repeated): a shared library that the other machine lacks, such as libvulkan.so.1",
  );
  process.exit();
}
const work = mkdtempSync(join(tmpdir(), "trimtab-gpu-check-"));
try {
  const folder = join(work, NAME);
  await fill(folder);
  const out = resolve(args.out);
  mkdirSync(out, { recursive: true });
  for (const part of await archive(out)) {
    console.log(`${part}  ${(statSync(part).size / 2 ** 20).toFixed(1)} MiB`);
  }
  console.log(
    `\non the other machine, with all parts in one folder:\n    cat ${NAME}.tar.gz.* | tar -xz && ${NAME}/run --json ${NAME}.json`,
  );
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function fill(folder: string): Promise<void> {
  const copy = (path: string) => {
    const target = join(folder, path);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(join(ROOT, path), target);
  };
  for (const path of await importedFiles()) copy(path);
  for (const path of [...MODELS, ...VECTORS.map((name) => `test/vectors/${name}`)].flatMap(
    dataFiles,
  )) {
    copy(path);
  }
  copy("package.json");
  copy(QUESTIONS);
  for (const name of WHOLE) {
    const source = join(ROOT, "node_modules", name);
    const target = join(folder, "node_modules", name);
    cpSync(join(source, "dist"), join(target, "dist"), {
      recursive: true,
      filter: (path) => !/\.(map|d\.ts|min\.\w+)$/.test(path),
    });
    copyFileSync(join(source, "package.json"), join(target, "package.json"));
    const native = join(source, NATIVE);
    if (existsSync(native)) cpSync(native, join(target, NATIVE), { recursive: true });
  }
  mkdirSync(join(folder, "libraries"));
  for (const file of args.library) copyFileSync(file, join(folder, "libraries", basename(file)));
  copyFileSync(process.execPath, join(folder, "node"));
  writeFileSync(join(folder, "run"), LAUNCHER);
  for (const program of ["node", "run"]) chmodSync(join(folder, program), 0o755);
}

/** Files that the entries import, with the package.json of each package, relative to the repository. */
async function importedFiles(): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ENTRIES,
    bundle: true,
    write: false,
    outdir: "unused",
    platform: "node",
    format: "esm",
    target: "node24",
    metafile: true,
    external: WHOLE,
    logLevel: "error",
  });
  const files = Object.keys(metafile.inputs);
  const packages = files.flatMap((path) => {
    const [folder] = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path) ?? [];
    return folder === undefined ? [] : [`${folder}/package.json`];
  });
  return [...new Set([...files, ...packages])];
}

/** The model in float32 with its configuration, and golden cases; no other formats. */
function dataFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /^(model\.onnx|.*\.(json|jinja|f32))$/.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

/** @returns the files of the archive, which follow each other */
async function archive(out: string): Promise<string[]> {
  const tar = spawn("tar", ["-c", "--owner=0", "--group=0", "-C", work, NAME], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(tar, "exit");
  const parts: string[] = [];
  let left = 0;
  let part: Awaited<ReturnType<typeof open>> | null = null;
  for await (const chunk of tar.stdout.pipe(createGzip()) as AsyncIterable<Buffer>) {
    for (let start = 0; start < chunk.length;) {
      if (left === 0) {
        await part?.close();
        parts.push(join(out, `${NAME}.tar.gz.${String(parts.length + 1).padStart(2, "0")}`));
        part = await open(parts.at(-1)!, "w");
        left = PART_BYTES_MAX;
      }
      const piece = chunk.subarray(start, start + left);
      await part!.write(piece);
      start += piece.length;
      left -= piece.length;
    }
  }
  await part?.close();
  const [code] = (await exited) as [number | null];
  if (code !== 0) throw new Error(`tar ended with ${code}`);
  return parts;
}
