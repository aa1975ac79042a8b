/**
 * Checks which folder imports which: no two folders may import each other, neither directly nor through others, and
 * each side keeps to SIDE_RULES. Type imports count too, because they also make one folder depend on another.
 * Run alone: `npm run check -- folders`.
 */
import { globSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join, posix } from "node:path";
import { parseSync, Visitor, type ImportExpression, type TSImportType } from "oxc-parser";

const SIDES = ["shared", "edge", "worker", "infra"];

/** Targets are folders, files or packages. The longest entry that contains a target decides. */
interface SideRule {
  /** The folder whose files the rule is for. */
  readonly folder: string;
  /** A folder in it that the rule is not for. */
  readonly except?: string;
  /** "" means everything. */
  readonly forbidden: readonly string[];
  readonly allowed?: readonly string[];
  readonly reason: string;
}

const SIDE_RULES: readonly SideRule[] = [
  {
    folder: "shared",
    forbidden: ["edge", "worker", "infra", "node:", "bullmq", "ioredis"],
    reason: "shared/ runs in workerd and in Node, and depends on neither side",
  },
  {
    folder: "edge",
    except: "edge/server",
    forbidden: ["worker", "infra", "node:", "onnxruntime-node", "edge/server", "@hono/node-server"],
    reason: "the edge is bundled for workerd and talks to workers through Redis only",
  },
  {
    folder: "edge/server",
    forbidden: ["worker", "infra", "cloudflare:workers"],
    reason: "the self-hosted edge runs in Node, and talks to workers through Redis only",
  },
  {
    folder: "worker",
    forbidden: ["edge", "infra", "hono"],
    reason: "a worker serves no HTTP API and talks to the edge through Redis only",
  },
  {
    folder: "worker",
    except: "worker/engine",
    forbidden: ["worker/engine"],
    reason: "the main thread reaches the engine's thread through worker/engine-client only",
  },
  {
    folder: "worker/engine",
    forbidden: ["worker"],
    allowed: [
      "worker/engine",
      "worker/engine-client/messages.ts",
      "worker/engine-client/change-messages.ts",
      "worker/engine-client/loading-progress.ts",
    ],
    reason: "the engine's thread shares with the main thread only the messages between them",
  },
  {
    folder: "worker/engine/decode",
    forbidden: [""],
    allowed: ["worker/engine/decode"],
    reason: "decoding is plain arithmetic on arrays, without dependencies",
  },
];

interface Import {
  /** Path of the importing file, relative to the repository. */
  readonly file: string;
  /** Path of a file, relative to the repository, or the name of a package. */
  readonly target: string;
}

/**
 * Checks all TypeScript files of the four sides under a folder.
 * @returns one message for each violation
 */
export function importViolations(root: string): string[] {
  const files = globSync(`{${SIDES.join(",")}}/**/*.ts`, { cwd: root }).toSorted();
  const imports = files.flatMap((file) => importsOf(file, readFileSync(join(root, file), "utf8")));
  return [...importCycles(imports), ...sideViolations(imports)];
}

function importsOf(file: string, source: string): Import[] {
  const imports: Import[] = [];
  const add = ({ source }: { source: ImportExpression["source"] | null }) => {
    if (source?.type !== "Literal" || typeof source.value !== "string") return;
    const name = source.value;
    if (name.startsWith(".")) {
      imports.push({ file, target: posix.join(posix.dirname(file), name) });
    } else {
      imports.push({ file, target: isBuiltin(name) ? `node:${name.replace("node:", "")}` : name });
    }
  };
  new Visitor({
    ImportDeclaration: add,
    ExportNamedDeclaration: add,
    ExportAllDeclaration: add,
    ImportExpression: add,
    TSImportType: (node: TSImportType) => add(node),
  }).visit(parseSync(file, source).program);
  return imports;
}

/** A message for each import cycle of folders: for each folder its shortest cycle, but each set of folders only once. */
function importCycles(imports: readonly Import[]): string[] {
  /** Importing folder -> imported folder -> one import as an example. */
  const graph = new Map<string, Map<string, Import>>();
  for (const one of imports) {
    const [from, to] = [posix.dirname(one.file), posix.dirname(one.target)];
    if (from === to || !SIDES.includes(to.split("/")[0]!)) continue;
    const edges = graph.get(from) ?? new Map<string, Import>();
    if (!edges.has(to)) edges.set(to, one);
    graph.set(from, edges);
  }
  const messages = new Map<string, string>();
  for (const folder of graph.keys()) {
    const cycle = shortestCycle(graph, folder);
    if (cycle === null) continue;
    const names = cycle
      .map(({ file }) => posix.dirname(file))
      .toSorted()
      .join(", ");
    if (messages.has(names)) continue;
    const lines = cycle.map(({ file, target }) => `  ${file} imports ${target}`);
    messages.set(names, [`folders import each other: ${names}`, ...lines].join("\n"));
  }
  return [...messages.values()];
}

/** The shortest chain of imports from a folder back to itself; null if there is none. */
function shortestCycle(
  graph: ReadonlyMap<string, ReadonlyMap<string, Import>>,
  start: string,
): Import[] | null {
  const paths = new Map<string, Import[]>([[start, []]]);
  for (const [folder, path] of paths) {
    for (const [to, one] of graph.get(folder) ?? []) {
      if (to === start) return [...path, one];
      // A Map also visits the entries that are added during its iteration: this is a breadth-first search.
      if (!paths.has(to)) paths.set(to, [...path, one]);
    }
  }
  return null;
}

function sideViolations(imports: readonly Import[]): string[] {
  return imports.flatMap(({ file, target }) =>
    SIDE_RULES.filter(
      ({ folder, except }) =>
        contains(folder, file) && (except === undefined || !contains(except, file)),
    )
      .filter(({ forbidden, allowed = [] }) => {
        const longest = (names: readonly string[]) =>
          Math.max(
            -1,
            ...names.filter((name) => contains(name, target)).map((name) => name.length),
          );
        return longest(forbidden) > longest(allowed);
      })
      .map(({ reason }) => `${file} may not import ${target}: ${reason}`),
  );
}

/** Whether a target is the folder, file or package with this name, or lies in it. */
function contains(name: string, target: string): boolean {
  return (
    name === "" || target === name || target.startsWith(name.endsWith(":") ? name : `${name}/`)
  );
}

if (import.meta.main) {
  const violations = importViolations(join(import.meta.dirname, "../.."));
  for (const violation of violations) console.error(violation);
  process.exitCode = violations.length === 0 ? 0 : 1;
}
