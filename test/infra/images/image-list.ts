/** The images: of the edge, of the worker for CPUs and of the roles without models. */
export interface Image {
  readonly name: string;
  /** In infra/deploy. */
  readonly file: string;
  /** A stage of the file; absent: the last one. */
  readonly target?: string;
  readonly buildArgs: readonly string[];
  /** The variable with the port of /healthz. */
  readonly portVariable: string;
  /** Further options of `podman run`. */
  readonly runOptions: readonly string[];
}

export const EDGE: Image = {
  name: "trimtab-edge",
  file: "edge.Dockerfile",
  buildArgs: [],
  portVariable: "PORT",
  runOptions: [],
};

export const WORKER: Image = {
  name: "trimtab-worker",
  file: "worker.Dockerfile",
  buildArgs: ["EXECUTION_PROVIDER=cpu"],
  portVariable: "HEALTH_PORT",
  // The chart mounts it too.
  runOptions: ["--tmpfs", "/tmp"],
};

export const CONTROL: Image = {
  name: "trimtab-control",
  file: "worker.Dockerfile",
  target: "control",
  buildArgs: [],
  portVariable: "HEALTH_PORT",
  runOptions: [],
};
