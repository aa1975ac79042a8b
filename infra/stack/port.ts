/** TCP ports: finds a free one, and checks that a command can use its port. */
import { createServer, type AddressInfo } from "node:net";
import { UserError } from "./user-error.ts";

const LOOPBACK = "127.0.0.1";

/** A port on which no process listens now. Another process may take it before the caller uses it. */
export async function freePort(): Promise<number> {
  const port = await listenBriefly(0, LOOPBACK);
  if (port === null) throw new Error("no free port");
  return port;
}

/**
 * Checks that a server can listen on a port.
 * @param remedy how the user chooses another port, as the end of a sentence
 * @throws UserError if it cannot
 */
export async function ensurePortFree(port: number, remedy: string, host = LOOPBACK): Promise<void> {
  const freePort = await listenBriefly(port, host).catch((error: NodeJS.ErrnoException) => {
    throw new UserError(`port ${port} of ${host} cannot be used (${error.code}): ${remedy}`);
  });
  if (freePort === null) {
    throw new UserError(`port ${port} is in use: stop the program that uses it or ${remedy}`);
  }
}

/** Listens and stops at once. Port 0 means any free port. @returns the port; null if it is in use */
function listenBriefly(port: number, host: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(null);
      else reject(error);
    });
    server.listen(port, host, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
