/** A TCP proxy in front of Redis whose connections can become silent without being closed, as in a failing network. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface RedisProxy {
  readonly url: string;
  /** From now on all data is dropped, as in a network partition. No connection is closed. */
  partition(): void;
  /**
   * Drops all data of the connections that exist now, as a NAT or firewall does that has lost its table. None is closed, and
   * new connections work.
   */
  silenceConnections(): void;
  /** Closes all connections. New connections work. */
  heal(): void;
  /** Closes all connections. New ones lead to another server, as after a failover. */
  switchTo(redisUrl: string): void;
  close(): void;
}

export async function startRedisProxy(redisUrl: string): Promise<RedisProxy> {
  const portOf = (url: string) => Number(new URL(url).port);
  let target = portOf(redisUrl);
  const sockets = new Set<Socket>();
  const silent = new WeakSet<Socket>();
  let isLost = false;
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (data) => {
        if (!isLost && !silent.has(from)) to.write(data);
      });
      from.on("error", () => {});
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    partition: () => (isLost = true),
    silenceConnections: () => {
      for (const socket of sockets) silent.add(socket);
    },
    heal: () => {
      cut();
      isLost = false;
    },
    switchTo: (url) => {
      target = portOf(url);
      cut();
    },
    close: () => {
      cut();
      server.close();
    },
  };
}
