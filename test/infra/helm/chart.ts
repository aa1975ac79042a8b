/**
 * `npm run chart` (needs Python 3.10 or newer): renders the chart with the library of Helm 4 for all files in values/, and checks each object
 * against the schemas of Kubernetes 1.30 to 1.37, of KEDA, of the Gateway API and of the Prometheus operator. It also writes
 * values.schema.json and the manifest for Kustomize, which chart.test.ts compares with the chart.
 */
import { spawnSync } from "node:child_process";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import * as v from "valibot";
import { parseAllDocuments } from "yaml";
import { valuesSchema } from "../../../infra/helm/schema.ts";
import { errorText, UserError } from "../../../infra/stack/user-error.ts";
import { installNodeTools } from "../../support/node-tools.ts";
import { installPythonTools } from "../../../infra/stack/python-tools.ts";
import { CHART, KUSTOMIZE, kustomizeHeader } from "./files.ts";

const PYTHON_PACKAGES = ["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0", "pyyaml"];
/** Kinds that are not Kubernetes' own, by the module that checks them. */
const CUSTOM_KINDS = {
  ScaledObject: "keda/keda.sh/v1alpha1",
  HTTPRoute: "gateway-api/gateway.networking.k8s.io/v1",
  PodMonitor: "prometheus-operator/monitoring.coreos.com/v1",
} as const;
const NODE_PACKAGES = ["keda@2.0.0", "gateway-api@2.0.0", "prometheus-operator@6.0.0"];

const Rendered = v.object({
  rendered: v.record(v.string(), v.string()),
  problems: v.array(v.string()),
});

try {
  writeFileSync(
    join(CHART, "values.schema.json"),
    `${JSON.stringify(valuesSchema(readFileSync(join(CHART, "values.yaml"), "utf8")), null, 2)}\n`,
  );
  const { rendered, problems } = render();
  for (const [file, text] of Object.entries(rendered)) {
    problems.push(...(await customProblems(file, text)));
    const kinds = [...text.matchAll(/^kind: (\w+)$/gm)];
    console.log(`${basename(file).padEnd(20)} ${kinds.length} objects`);
  }
  const [, text] = Object.entries(rendered).find(([file]) => basename(file) === "default.yaml")!;
  writeFileSync(KUSTOMIZE, kustomizeHeader() + withoutHelm(text));
  for (const problem of problems) console.log(problem);
  console.log(problems.length === 0 ? "no problems" : `${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
}

function render() {
  const programs = installPythonTools("chart-0.2.2", PYTHON_PACKAGES);
  const files = globSync(join(import.meta.dirname, "values/*.yaml")).toSorted();
  const args = [join(import.meta.dirname, "render.py"), CHART, ...files];
  const { status, stdout, stderr } = spawnSync(join(programs, "python"), args, {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new UserError(stderr);
  return v.parse(Rendered, JSON.parse(stdout));
}

async function customProblems(file: string, text: string): Promise<string[]> {
  const packages = NODE_PACKAGES.map((name) => `@kubernetes-models/${name}`);
  const folder = installNodeTools("chart-kinds-2.0.0", packages);
  const problems: string[] = [];
  for (const document of parseAllDocuments(text)) {
    const object = document.toJS() as { readonly kind: keyof typeof CUSTOM_KINDS } | null;
    const module = object && CUSTOM_KINDS[object.kind];
    if (!module) continue;
    const path = join(folder, "node_modules/@kubernetes-models", module, "index.js");
    const classes = (await import(pathToFileURL(path).href)) as Record<
      string,
      new (object: object) => { validate(): void }
    >;
    try {
      new classes[object.kind]!(object).validate();
    } catch (error) {
      problems.push(`${file}: ${object.kind}: ${errorText(error)}`);
    }
  }
  return problems;
}

/** Without the pod of `helm test`, and without labels that say that Helm made the objects. */
function withoutHelm(text: string): string {
  return text
    .split(/^---$/m)
    .filter((part) => part.trim() !== "" && !part.includes("helm.sh/hook: test"))
    .map((part) =>
      part.replaceAll(/^ *(helm\.sh\/chart|app\.kubernetes\.io\/managed-by): .*\n/gm, ""),
    )
    .map((part) => part.replaceAll(/[ \t]+$/gm, "").trim())
    .join("\n---\n")
    .concat("\n");
}
