/** The chart as far as no Helm is needed: its schema, and what it renders by default. `npm run chart` renders and checks all of it. */
import { globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Ajv } from "ajv";
import { expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { valuesSchema } from "../../../infra/helm/schema.ts";
import { CHART, KUSTOMIZE, kustomizeHeader, ROOT } from "./files.ts";

interface Container {
  readonly name: string;
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly securityContext: object;
  readonly resources: { readonly requests: object; readonly limits: object };
}

interface KubernetesObject {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: {
    readonly replicas?: number;
    readonly minReplicaCount?: number;
    readonly triggers: readonly { readonly metadata: Readonly<Record<string, string>> }[];
    readonly template: {
      readonly spec: {
        readonly securityContext: object;
        readonly automountServiceAccountToken: boolean;
        readonly terminationGracePeriodSeconds: number;
        readonly containers: readonly Container[];
      };
    };
  };
}

const read = (path: string) => readFileSync(path, "utf8");
const schema = JSON.parse(read(join(CHART, "values.schema.json"))) as object;
const objects = parseAllDocuments(read(KUSTOMIZE)).map(
  (document) => document.toJS() as KubernetesObject,
);
const deployments = objects.filter(({ kind }) => kind === "Deployment");

test("values.schema.json and the manifest for Kustomize were made from the chart as it is (npm run chart)", () => {
  expect(schema).toEqual(valuesSchema(read(join(CHART, "values.yaml"))));
  expect(read(KUSTOMIZE).split("\n", 1)[0]).toBe(kustomizeHeader().trim());
});

const validate = new Ajv({ strict: false }).compile(schema);

test.for(
  globSync(join(import.meta.dirname, "values/*.yaml")).map((path) => [basename(path), path]),
)("the schema accepts %s", ([, path]) => {
  expect(validate(parse(read(path!)))).toBe(true);
});

test.for([
  [{ redis: { existingSecrets: "x" } }],
  [{ pools: { gpu: { modelSource: "s3" } } }],
  [{ pools: { gpu: { scaling: { minReplica: 0 } } } }],
  [{ edge: { replicas: "two" } }],
  // The rule would allow all ports.
  [{ networkPolicy: { redisPorts: [] } }],
  [{ networkPolicy: { redisPorts: [0] } }],
])("the schema refuses %j", ([values]) => {
  expect(validate(values)).toBe(false);
});

test("pods are restricted, have requests and limits, and more time to end than their drain", () => {
  expect(deployments.map(({ metadata }) => metadata.name)).toEqual([
    "trimtab-control",
    "trimtab-edge",
    "trimtab-worker-default",
  ]);
  for (const { spec } of deployments) {
    const pod = spec.template.spec;
    expect(pod.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(pod.automountServiceAccountToken).toBe(false);
    for (const { securityContext, resources, env } of pod.containers) {
      expect(securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
      expect(resources).toMatchObject({ requests: {}, limits: {} });
      const drain = Number(env.find(({ name }) => name === "DRAIN_SECONDS")?.value ?? 25);
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(drain);
    }
  }
});

test("each variable of a container is one that its program reads", () => {
  const known = [
    "worker/env.ts",
    "edge/runtime/env.ts",
    "edge/server/settings.ts",
    "shared/redis/url.ts",
  ]
    .map((file) => read(join(ROOT, file)))
    .join();
  const names = deployments.flatMap(({ spec }) =>
    spec.template.spec.containers.flatMap(({ env }) => env.map(({ name }) => name)),
  );
  expect(names.length).toBeGreaterThan(10);
  expect([...new Set(names)].filter((name) => !known.includes(`${name}: `))).toEqual([]);
});

test("workers scale from zero on metrics of the control role, which does not scale to zero", () => {
  const [scaled] = objects.filter(({ kind }) => kind === "ScaledObject");
  expect(scaled!.spec.minReplicaCount).toBe(0);
  const metrics = read(join(ROOT, "worker/telemetry/metrics.ts"));
  for (const { metadata } of scaled!.spec.triggers) {
    const [, metric] = /\(trimtab_(\w+)\{/.exec(metadata["query"]!)!;
    expect(metrics).toContain(`"${metric}"`);
    expect(metadata["query"]).toContain('model=~"atlas-qa|gsm-mini"');
    expect(metadata["ignoreNullValues"]).toBe("false");
  }
  const control = deployments.find(({ metadata }) => metadata.name.endsWith("control"))!;
  expect(control.spec.replicas).toBeGreaterThan(0);
  const [{ env }] = control.spec.template.spec.containers as [Container];
  expect(env).toContainEqual({ name: "ROLES", value: "deliver,batch,sweep" });
});
