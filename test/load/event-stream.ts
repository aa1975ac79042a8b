/**
 * Reads event streams with as little processor time as possible: the command shares the machine with what it measures. Node's fetch
 * takes several times as much.
 */
import { Agent, request as open } from "node:http";

const agent = new Agent({ keepAlive: true, maxSockets: Infinity });

export interface StreamedEvent {
  /** Empty for the server's default type. */
  readonly type: string;
  readonly data: string;
}

export interface StreamRequest {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON that is sent with POST; without it the request is a GET. */
  readonly body?: string;
  readonly signal?: AbortSignal;
}

/** Calls `onEvent` with each event. @throws Error if the server refuses, or the stream breaks off */
export function readEventStream(
  { url, headers, body, signal }: StreamRequest,
  onEvent: (event: StreamedEvent) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = open(url, {
      // llama.cpp closes connections that are idle for a few seconds, so a POST opens one of its own.
      agent: body === undefined ? agent : false,
      method: body === undefined ? "GET" : "POST",
      headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
      ...(signal && { signal }),
    });
    request.on("error", reject);
    request.end(body);
    request.on("response", (reply) => {
      if (reply.statusCode !== 200) {
        reply.resume();
        return reject(new Error(`${url} answered ${reply.statusCode}`));
      }
      let text = "";
      reply.setEncoding("utf8");
      reply.on("data", (chunk: string) => {
        text += chunk;
        for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
          try {
            onEvent(parseEvent(text.slice(0, end)));
          } catch (error) {
            reply.destroy(error as Error);
            return;
          }
          text = text.slice(end + 2);
        }
      });
      reply.on("end", resolve);
      reply.on("error", reject);
    });
  });
}

function parseEvent(frame: string): StreamedEvent {
  const field = (name: string) => {
    const start = `\n${frame}`.indexOf(`\n${name}`);
    if (start < 0) return "";
    const from = start + name.length;
    const end = frame.indexOf("\n", from);
    return frame.slice(from, end < 0 ? undefined : end);
  };
  return { type: field("event: "), data: field("data: ") };
}
