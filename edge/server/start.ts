/**
 * The start of the self-hosted edge: a Node process that serves the app with two connections to each Redis, one for commands and one for all
 * streams. In this order: it checks the configuration (../runtime/env.ts, settings.ts), listens, says that it is ready when a Redis has
 * answered, and on SIGTERM or SIGINT finishes what it can and exits. This folder is the only one of the edge that may use Node; nothing
 * else of it is imported.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkServer } from "../../shared/redis/server-check.ts";
import { checkShard } from "../../shared/redis/shards.ts";
import { commandsOf } from "../../shared/redis/tags.ts";
import { createApp } from "../app.ts";
import document from "../docs/openapi.json" with { type: "json" };
import { CardCache } from "../redis/card-cache.ts";
import { envsOfShards } from "../redis/request-shards.ts";
import { connectShared } from "../redis/shared-connection.ts";
import { logsOver } from "../redis/shared-logs.ts";
import { RequestStores } from "../redis/stores.ts";
import { otlpOf, parseEnv, type Env } from "../runtime/env.ts";
import { log } from "../runtime/log.ts";
import { FormatCompiler } from "./format-compiler.ts";
import { EdgeMetrics } from "./metrics.ts";
import { EdgeServer } from "./server.ts";
import { ShardChecks } from "./shard-checks.ts";
import { parseSettings, type Settings } from "./settings.ts";

/** A file that `npm run edge` and the build of the image write (infra/pages/write.ts); empty if it is missing. */
function pageFile(name: string): string {
  const file = join(import.meta.dirname, "..", name);
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

function readConfiguration(): [Env, Settings] {
  try {
    return [parseEnv(process.env), parseSettings(process.env)];
  } catch (error) {
    return exitWith(`Configuration: ${error instanceof Error ? error.message : ""}`);
  }
}

/** The routes that the API document has. */
function documentRoutes(): { method: string; path: string }[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter((name) => name !== "parameters")
      .map((name) => ({ method: name.toUpperCase(), path })),
  );
}

/** Starts the edge. It ends the process if it cannot start. @param stop aborted by a signal to end, with its name */
export async function start(stop: AbortSignal): Promise<void> {
  const [env, settings] = readConfiguration();
  process.on("unhandledRejection", (error) => log({ event: "unhandled_rejection", error }));
  const routes = new WeakMap<Request, string>();
  const metrics = new EdgeMetrics(
    { version: document.info.version, commit: settings.BUILD_COMMIT },
    documentRoutes(),
  );
  const shards = envsOfShards(env).map((env) => connectShard(env, metrics));
  const openStores = (shard: number) => {
    const { env, logs, commands: redis, cards } = shards[shard]!;
    return new RequestStores(env, logs, { redis, cards }, shard);
  };
  const checks = new ShardChecks(log, exitWith);
  const count = shards.length;
  const allCommands = shards.map(({ commands }) => commandsOf(commands));
  const usable = shards.map(({ commands, env }, shard) => {
    const check = async () => {
      const result = await checkServer(commands, env.REDIS_URL);
      const refusal =
        result.refusal ??
        (await checkShard(commandsOf(commands), shard, count, async () => allCommands));
      return { ...result, refusal };
    };
    const requireWritable = () => openStores(shard).readiness.requireWritable();
    return checks.untilUsable(commands, { check, requireWritable }, count === 1 ? null : shard);
  });
  const compiler = new FormatCompiler((event) => log({ event, level: "warn" }));
  let referenceScript: string | null = null;
  const app = createApp({
    openStores,
    shardCount: shards.length,
    deadlineSeconds: env.JOB_DEADLINE_SECONDS,
    webhookAllow: env.WEBHOOK_ALLOW,
    publicUrl: env.PUBLIC_URL,
    otlp: otlpOf(env),
    compileElsewhere: (json) => compiler.compile(json),
    log,
    pages: {
      // It takes 10 MB of memory, which most processes never need.
      get referenceScript() {
        return (referenceScript ??= pageFile("docs/reference.txt"));
      },
      playScript: pageFile("play/script.txt"),
      playStyle: pageFile("play/style.txt"),
      adminScript: pageFile("admin/script.txt"),
      adminStyle: pageFile("admin/style.txt"),
    },
    isStopping: () => server.isStopping,
    onRoute: (request, path) => void routes.set(request, path),
  });
  const server = new EdgeServer(
    (request, context, openBody) => app.fetch(request, { openBody }, context),
    settings,
    log,
    {
      routeOf: (request) => routes.get(request) ?? null,
      requestStarted: () => metrics.requestStarted(),
      requestEnded: (reply) => metrics.requestEnded(reply),
      streamStarted: () => metrics.streamStarted(),
      streamEnded: () => metrics.streamEnded(),
    },
  );
  const { HOST, PORT, METRICS_PORT } = settings;
  const cannotListen = (name: string, port: number) => (error: NodeJS.ErrnoException) =>
    error.code === "EADDRINUSE"
      ? exitWith(`port ${port} is in use: stop the program that uses it or set ${name}`)
      : exitWith(`port ${port} of ${HOST} cannot be used (${error.code}): set HOST or ${name}`);
  if (METRICS_PORT !== 0) {
    await metrics.serve(METRICS_PORT, HOST).catch(cannotListen("METRICS_PORT", METRICS_PORT));
  }
  const url = await server.listen().catch(cannotListen("PORT", PORT));
  log({ event: "Edge listening", level: "info", details: { url } });
  // As `/readyz`: the tenants of the other shards get 503 meanwhile.
  void Promise.race(usable).then(() =>
    log({ event: "Edge ready", level: "info", details: { url } }),
  );

  const end = async () => {
    const details = { signal: String(stop.reason), seconds: settings.DRAIN_SECONDS };
    log({ event: "Edge stopping", level: "info", details });
    await server.stop();
    process.exit(0);
  };
  if (stop.aborted) await end();
  else stop.addEventListener("abort", () => void end());
}

/** The connections to a shard: one for commands, one for streams. */
function connectShard(env: Env, metrics: EdgeMetrics) {
  const commands = connectShared(env, {
    onReply: (seconds, isError) => metrics.redisReplied(seconds, isError),
    commandTimeoutMs: env.REDIS_TIMEOUT_MS,
    // The first reconnect may succeed at once; a Redis that is down should not make each request wait for its timeout.
    connectsMax: 1,
    waitsForServer: false,
  });
  // A stream outlives the replacement of a connection that did not reply, a restart of Redis, and a failover.
  const streams = connectShared(env, {
    commandTimeoutMs: 3 * env.REDIS_TIMEOUT_MS,
    connectsMax: null,
    waitsForServer: true,
  });
  return { env, commands, logs: logsOver(streams, env), cards: new CardCache() };
}

function exitWith(message: string): never {
  log({ event: message, level: "fatal" });
  process.exit(1);
}
