/** Starts and stops worker processes as KEDA's ScaledObject of the chart would start and stop pods. */
import type { WorkerProcess } from "../../infra/stack/worker.ts";
import type { SeededRandom } from "./seeded-random.ts";

const POLL_MS = 1_000;

interface ScalerOptions {
  /** Metrics of the control role. */
  readonly metricsUrl: string;
  readonly start: () => Promise<WorkerProcess>;
  readonly max: number;
  readonly jobsPerReplica: number;
  readonly ageSeconds: number;
  /** Time without jobs after which the last worker stops. */
  readonly cooldownMs: number;
  readonly log: (line: string) => void;
}

export class Scaler {
  readonly #options: ScalerOptions;
  readonly #starting = new Set<Promise<WorkerProcess>>();
  readonly #ready = new Set<WorkerProcess>();
  readonly #draining = new Set<WorkerProcess>();
  readonly #timer: NodeJS.Timeout;
  #activeMs = performance.now();
  #isPolling = false;
  /** The most workers at a time. */
  most = 0;
  starts = 0;

  constructor(options: ScalerOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#poll(), POLL_MS);
  }

  /** Workers that start or are ready. A Deployment does not count pods that end either. */
  get count(): number {
    return this.#starting.size + this.#ready.size;
  }

  /** All worker processes. */
  get left(): number {
    return this.count + this.#draining.size;
  }

  /** Kills a worker that is ready. As its Deployment would, the next poll starts another one. @returns whether there was one */
  killOne(random: SeededRandom): boolean {
    if (this.#ready.size === 0) return false;
    random.pick([...this.#ready]).child.kill("SIGKILL");
    return true;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all([...this.#ready].map((worker) => worker.stop()));
  }

  async #poll(): Promise<void> {
    if (this.#isPolling) return;
    this.#isPolling = true;
    try {
      const { jobs, ageSeconds } = await this.#read();
      const nowMs = performance.now();
      if (jobs > 0) this.#activeMs = nowMs;
      const wanted = this.#wanted(jobs, ageSeconds, nowMs);
      while (this.count < wanted) this.#start();
      // One at a time: a worker that stops hands over its jobs.
      if (this.count > wanted) void this.#stopOne();
    } catch {
      // KEDA keeps the count while it has no figures.
    } finally {
      this.#isPolling = false;
    }
  }

  /** The larger of what the two triggers ask for, within the limits. */
  #wanted(jobs: number, ageSeconds: number, nowMs: number): number {
    const { max, jobsPerReplica, cooldownMs } = this.#options;
    const byJobs = Math.ceil(jobs / jobsPerReplica);
    const byAge = Math.ceil((this.count * ageSeconds) / this.#options.ageSeconds);
    const isIdle = jobs === 0 && nowMs - this.#activeMs > cooldownMs;
    const least = isIdle || (jobs === 0 && this.count === 0) ? 0 : 1;
    return Math.min(max, Math.max(least, byJobs, byAge));
  }

  async #read(): Promise<{ jobs: number; ageSeconds: number }> {
    const text = await (await fetch(this.#options.metricsUrl)).text();
    const values = (name: string) =>
      [...text.matchAll(new RegExp(`^${name}\\{.*\\} (\\S+)$`, "gm"))].map(([, value]) =>
        Number(value),
      );
    const jobs = values("trimtab_model_jobs");
    // A known model has figures, also with zero jobs.
    if (jobs.length === 0) throw new Error("no figures");
    return {
      jobs: jobs.reduce((sum, count) => sum + count, 0),
      ageSeconds: Math.max(...values("trimtab_model_queue_age_seconds")),
    };
  }

  #start(): void {
    this.starts++;
    const starting = this.#options.start();
    this.#starting.add(starting);
    this.most = Math.max(this.most, this.count);
    this.#options.log(`+ ${this.count} workers`);
    starting.then(
      (worker) => {
        this.#starting.delete(starting);
        this.#ready.add(worker);
        void worker.child.exited.then(() => {
          this.#ready.delete(worker);
          this.#draining.delete(worker);
          this.#options.log(`- ${this.count} workers`);
        });
      },
      () => this.#starting.delete(starting),
    );
  }

  async #stopOne(): Promise<void> {
    const [worker] = this.#ready;
    if (worker === undefined) return;
    this.#ready.delete(worker);
    this.#draining.add(worker);
    await worker.stop();
  }
}
