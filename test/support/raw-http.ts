/** A connection on which a test writes bytes as they are, for requests that an HTTP client would not send. */
import { connect } from "node:net";

export interface RawReply {
  readonly status: number;
  readonly headers: string;
  readonly body: string;
}

export interface RawConnection {
  /** The text that has arrived so far. */
  readonly received: string;
  write(text: string): void;
  /** Resolves when the server has closed the connection, to all that has arrived. */
  readonly closed: Promise<string>;
  close(): void;
}

export function openRaw(edgeUrl: string): RawConnection {
  const { hostname, port } = new URL(edgeUrl);
  const socket = connect(Number(port), hostname);
  let received = "";
  socket.setEncoding("utf8").on("data", (text: string) => (received += text));
  const closed = new Promise<string>((resolve) => {
    socket.on("error", () => {}).on("close", () => resolve(received));
  });
  return {
    get received() {
      return received;
    },
    write: (text) => socket.write(text),
    closed,
    close: () => socket.destroy(),
  };
}

/** Sends one request as it is written, and waits until the server closes the connection. */
export async function sendRaw(edgeUrl: string, request: string): Promise<RawReply> {
  const connection = openRaw(edgeUrl);
  connection.write(request);
  return parseReply(await connection.closed);
}

export function parseReply(received: string): RawReply {
  const [headers = "", ...body] = received.split("\r\n\r\n");
  return { status: Number(headers.split(" ")[1]), headers, body: body.join("\r\n\r\n") };
}
