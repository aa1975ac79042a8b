/**
 * Preloaded into the workers of `npm run load -- --free-decoder`: the engine's client is replaced by one whose models cost nothing.
 * All else in the worker is the real code: taking jobs, leases, the event log.
 */
import { registerHooks } from "node:module";

const REAL = new URL("../../../worker/engine-client/client.ts", import.meta.url).href;
const FREE = new URL("engine-client.ts", import.meta.url).href;

registerHooks({
  resolve(specifier, context, nextResolve) {
    const resolved = nextResolve(specifier, context);
    return resolved.url === REAL ? { ...resolved, url: FREE } : resolved;
  },
});
