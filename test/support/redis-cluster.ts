/** Starts a Redis Cluster of two nodes, and a replica of the one that holds the keys. */
import { Redis } from "ioredis";
import { freePort } from "../../infra/stack/port.ts";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";

const SLOTS = 16_384;

export interface RedisCluster {
  /** Has no keys, and knows which node does. */
  readonly other: RedisServer;
  /** The node that holds the keys. */
  readonly owner: RedisServer;
  /** URL of the cluster; it names only the node without keys. */
  readonly url: string;
  /** Kills the node that holds the keys, when its replica has all of them. The replica takes its place. */
  readonly replaceOwner: () => Promise<void>;
}

export async function startRedisCluster(): Promise<RedisCluster> {
  const start = async () => startRedis({ aof: true, clusterPort: await freePort() });
  const [other, owner, replica] = await Promise.all([start(), start(), start()]);
  await call(other, "ADDSLOTSRANGE", 0, SLOTS / 2 - 1);
  await call(owner, "ADDSLOTSRANGE", SLOTS / 2, SLOTS - 1);
  for (const [epoch, node] of [other, owner, replica].entries()) {
    await call(node, "SET-CONFIG-EPOCH", epoch + 1);
    if (node !== other) await call(other, "MEET", "127.0.0.1", node.port, node.clusterPort!);
  }
  await until(other, async () => (await info(replica)).includes("cluster_known_nodes:3"));
  const ownerId = (await call(owner, "MYID")) as string;
  await until(replica, async () => (await call(replica, "REPLICATE", ownerId)) === "OK");
  for (const node of [other, owner, replica]) {
    await until(node, async () => (await info(node)).includes("cluster_state:ok"));
  }
  await until(replica, async () => (await replication(replica)).includes("master_link_status:up"));
  const replaceOwner = async () => {
    // Replication is asynchronous: the replica would lack what it has not received when the owner dies.
    const written = offsetOf(await replication(owner), "master_repl_offset");
    await until(
      replica,
      async () => offsetOf(await replication(replica), "slave_repl_offset") >= written,
    );
    owner.child.kill("SIGKILL");
    await call(replica, "FAILOVER", "TAKEOVER");
  };
  return { other, owner, url: `redis+cluster://127.0.0.1:${other.port}`, replaceOwner };
}

async function replication(node: RedisServer): Promise<string> {
  const redis = new Redis(node.port);
  try {
    return await redis.info("replication");
  } finally {
    redis.disconnect();
  }
}

const offsetOf = (replication: string, field: string) =>
  Number(new RegExp(`^${field}:(\\d+)`, "m").exec(replication)![1]);

const info = async (node: RedisServer) => (await call(node, "INFO")) as string;

function until(node: RedisServer, probe: () => Promise<boolean>): Promise<void> {
  return node.child.waitFor("the cluster to be formed", 60_000, probe);
}

async function call(node: RedisServer, ...args: (string | number)[]): Promise<unknown> {
  const redis = new Redis(node.port);
  try {
    return await redis.call("CLUSTER", ...args);
  } finally {
    redis.disconnect();
  }
}
