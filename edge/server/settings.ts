/** The environment variables of the self-hosted edge besides those of edge/runtime/env.ts, with units, defaults and ranges. */
import * as v from "valibot";
import { number, parseVariables } from "../runtime/env.ts";

const Settings = v.object({
  /** Address to listen on. Default 127.0.0.1, for a proxy on the same machine; 0.0.0.0 in a container. */
  HOST: v.optional(v.pipe(v.string(), v.nonEmpty()), "127.0.0.1"),
  /** Port to listen on. Default 8787; 1 to 65535. */
  PORT: v.pipe(number(8_787, 1, 65_535), v.integer()),
  /**
   * Port of /metrics for Prometheus, on the address of HOST. It must not be reachable for clients. Default 0 (no metrics); up to
   * 65,535.
   */
  METRICS_PORT: v.pipe(number(0, 0, 65_535), v.integer()),
  /** The commit that the image was built from, for `trimtab_build_info`. Default: none. */
  BUILD_COMMIT: v.optional(v.string(), ""),
  /** Whether a line is logged for each request, without its query: `on` or `off`. Default: off; `on` with LOG_LEVEL debug. */
  ACCESS_LOG: v.optional(v.picklist(["on", "off"]), "off"),
  /** `info`: starts, stops and errors. `debug`: also ACCESS_LOG. Default: info. */
  LOG_LEVEL: v.optional(v.picklist(["debug", "info"]), "info"),
  /**
   * Seconds for which running requests and streams may continue after SIGTERM. Then they are cut after a whole event, and their
   * clients continue elsewhere with `Last-Event-ID`. Default 10; 0 to 3,600.
   */
  DRAIN_SECONDS: number(10, 0, 3_600),
  /** Connections of clients in total; further ones are closed at once. Each stream holds one. Default 10,000; 1 to 1,000,000. */
  CONNECTIONS_MAX: number(10_000, 1, 1_000_000),
  /** Connections of one address. Behind a proxy all clients have the proxy's address. Default 0 (no limit); up to 1,000,000. */
  CONNECTIONS_PER_ADDRESS_MAX: number(0, 0, 1_000_000),
  /** Bytes of all headers of a request. Default 16,384; 1,024 to 1,048,576. */
  HEADER_BYTES_MAX: number(16_384, 1_024, 1_048_576),
  /** Seconds within which all headers of a request must arrive. Default 10; 1 to 600. */
  HEADERS_TIMEOUT_SECONDS: number(10, 1, 600),
  /**
   * Seconds within which a whole request must arrive. Default 3,600, the time that an upload of a file may take: a JSON body
   * must arrive within a minute (edge/http/body.ts). 1 to 86,400.
   */
  REQUEST_TIMEOUT_SECONDS: number(3_600, 1, 86_400),
  /**
   * Seconds after a reply for which an idle connection stays open. It must be longer than the proxy keeps it (nginx and
   * AWS's load balancer: 60; Google's: 600), or the proxy may send a request on a connection that is being closed. Default 75; 1
   * to 3,600.
   */
  KEEP_ALIVE_SECONDS: number(75, 1, 3_600),
});
export type Settings = v.InferOutput<typeof Settings>;

/** @throws Error as parseVariables does */
export function parseSettings(variables: unknown): Settings {
  return parseVariables(Settings, variables, "edge/server/settings.ts");
}
