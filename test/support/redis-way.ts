/** A way to Redis that can be lost: a proxy whose connections fall silent, as on a network that lets nothing through. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface RedisWay {
  readonly url: string;
  /** From now on nothing comes through, and nobody is told. */
  lose(): void;
  /** Ends what was silent; new connections come through. */
  restore(): void;
  close(): void;
}

export async function openWay(redisUrl: string): Promise<RedisWay> {
  const target = Number(new URL(redisUrl).port);
  const sockets = new Set<Socket>();
  let isLost = false;
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (data) => {
        if (!isLost) to.write(data);
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
    lose: () => (isLost = true),
    restore: () => {
      cut();
      isLost = false;
    },
    close: () => {
      cut();
      server.close();
    },
  };
}
