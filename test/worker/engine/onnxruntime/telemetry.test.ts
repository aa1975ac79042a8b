/**
 * A worker calls no host of onnxruntime's vendor and keeps no device id. A resolver that refuses every name would need root
 * rights; instead the processes get an HTTPS proxy, which the vendor's client asks for its host before it would look it up.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { startRedis } from "../../../../infra/stack/redis.ts";
import { startWorker } from "../../../../infra/stack/worker.ts";

/** An environment with an empty home folder and a proxy. `called` resolves with the first request that the proxy gets. */
async function watchedEnvironment() {
  const home = mkdtempSync(join(tmpdir(), "trimtab-telemetry-"));
  const called = Promise.withResolvers<string>();
  const calls: string[] = [];
  const proxy = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (data) => {
      calls.push(data.toString().split("\r\n")[0]!);
      called.resolve(calls[0]!);
      socket.destroy();
    });
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  onTestFinished(() => {
    proxy.close();
    rmSync(home, { recursive: true });
  });
  const proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const env = {
    // Under CI the library sends nothing, whatever else is set.
    CI: "",
    HOME: home,
    TMPDIR: home,
    XDG_CACHE_HOME: "",
    ORT_DISABLE_TELEMETRY: "",
    https_proxy: proxyUrl,
    HTTPS_PROXY: proxyUrl,
  };
  return { env, calls, called: called.promise, files: () => readdirSync(home) };
}

test("a worker that has run its models has called no host and written no file", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const watched = await watchedEnvironment();
  const worker = await startWorker({ redisUrl: redis.url, env: watched.env });
  onTestFinished(() => worker.stop());

  // The library alone shows that both are noticed here, and how long it takes until it calls.
  const control = await watchedEnvironment();
  const program = `
    const { InferenceSession } = await import("onnxruntime-node");
    await InferenceSession.create("infra/models/base/onnx/model_quantized.onnx");
    setInterval(() => {}, 1_000);`;
  const bare = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd: join(import.meta.dirname, "../../../.."),
    env: { ...process.env, ...control.env },
    stdio: "inherit",
  });
  onTestFinished(() => void bare.kill("SIGKILL"));
  expect(await control.called).toContain("microsoft.com");
  expect(control.files()).toContain(".cache");

  expect(watched.calls).toEqual([]);
  expect(watched.files()).toEqual([]);
});
