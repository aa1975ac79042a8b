/**
 * Connections for streams. A stream that is left ends its connection, and the next one would wait for another: a round trip, and more
 * with TLS. So while a stream runs, a spare connection is opened.
 */
import type { Socket } from "node:net";
import { buildConnector } from "undici";

/** Servers close connections without a request after some seconds: 5 with llama.cpp. */
const SPARE_MS = 4_000;

interface Spare {
  readonly socket: Socket;
  readonly drop: () => void;
}

/** Events after which a connection without a request is of no use. */
const ENDS = ["error", "end", "close", "timeout"];

export class SpareConnection {
  readonly #connect = buildConnector({});
  #spare: Spare | null = null;
  #isOpening = false;
  #isClosed = false;

  /** For an undici pool. */
  readonly connector: buildConnector.connector = (options, callback) => {
    const socket = this.#take();
    // undici does not expect it before the connector returns.
    if (socket) queueMicrotask(() => callback(null, socket));
    else this.#connect(options, callback);
    this.#open(options);
  };

  close(): void {
    this.#isClosed = true;
    this.#spare?.drop();
  }

  #take(): Socket | null {
    if (!this.#spare) return null;
    const { socket, drop } = this.#spare;
    this.#spare = null;
    for (const event of ENDS) socket.off(event, drop);
    socket.setTimeout(0);
    return socket.ref();
  }

  #open(options: buildConnector.Options): void {
    if (this.#isOpening || this.#isClosed) return;
    this.#isOpening = true;
    this.#connect(options, (_, socket) => {
      this.#isOpening = false;
      if (socket) this.#keep(socket);
    });
  }

  #keep(socket: Socket): void {
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    const drop = () => {
      socket.destroy();
      if (this.#spare?.socket === socket) this.#spare = null;
    };
    for (const event of ENDS) socket.on(event, drop);
    socket.setTimeout(SPARE_MS).unref();
    this.#spare = { socket, drop };
  }
}
