/**
 * Errors of a connection before there is a request: a malformed request line or chunk, headers that are too long, a request
 * that does not arrive. The reply is written to the socket, in the form of the API's other errors.
 */
import { STATUS_CODES, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { AppError } from "../../shared/api/errors.ts";

/** Status and message, by the code of the parser's error; any other code is a malformed request. */
const ERRORS: Readonly<Record<string, readonly [status: number, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, "The headers are too long"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "The request did not arrive in time"],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, "The chunk extensions are too long"],
};

/**
 * Replies to a request that cannot be parsed, and closes the connection.
 * @param open the reply that is open on this connection, if any: nothing may be written into it once it has begun
 */
export function rejectConnection(
  socket: Duplex,
  code: string | undefined,
  open: ServerResponse | undefined,
): void {
  const [status, message] = ERRORS[code ?? ""] ?? [400, "The request is not valid HTTP"];
  if (socket.writable && open?.headersSent !== true) {
    socket.write(rawReply(status, message));
    // For the metrics: Node does not know this reply.
    if (open) open.statusCode = status;
  }
  socket.destroy();
}

/** Replies to CONNECT, which the server gives a socket instead of a reply. */
export function rejectConnect(socket: Duplex): void {
  socket.on("error", () => {});
  socket.end(rawReply(405, "This server is no proxy"));
}

/** Whether the request names two hosts. Node takes the first one; a proxy may have taken the other. RFC 9112 asks for 400. */
export function hasTwoHosts({ rawHeaders }: IncomingMessage): boolean {
  return rawHeaders.filter((text, i) => i % 2 === 0 && text.toLowerCase() === "host").length > 1;
}

export function rejectHost(outgoing: ServerResponse): void {
  const body = problem(400, "The request has two Host headers");
  const headers = {
    "Content-Type": "application/problem+json",
    "Content-Length": Buffer.byteLength(body),
    Connection: "close",
  };
  outgoing.writeHead(400, headers).end(body);
}

/** The reply to a request whose URL or Host header is not valid. */
export function invalidTarget(): Response {
  return new Response(problem(400, "The URL or the Host header is not valid"), {
    status: 400,
    headers: { "Content-Type": "application/problem+json", Connection: "close" },
  });
}

function rawReply(status: number, message: string): string {
  const body = problem(status, message);
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "Connection: close",
    "Content-Type: application/problem+json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "",
    body,
  ].join("\r\n");
}

function problem(status: number, message: string): string {
  const error = new AppError("invalid_request", message);
  return JSON.stringify({ ...error.toProblem(), title: STATUS_CODES[status], status });
}
