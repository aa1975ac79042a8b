/** What the edge is measured against, in a Worker of its own: Hono alone, and Hono with nothing but BullMQ's `queue.add`. */
import { Queue } from "bullmq";
import { Hono } from "hono";
import { Redis } from "ioredis";

const bare = new Hono<{ Bindings: { REDIS_URL: string } }>();

bare.get("/hono", (c) => c.json({ status: "ok" }));

bare.post("/add", async (c) => {
  const { id } = await c.req.json<{ id: string }>();
  // A connection for each request, because workerd lets none use another's; opened as the edge opens it.
  const connection = new Redis(c.env.REDIS_URL, {
    lazyConnect: true,
    maxRetriesPerRequest: null,
    enableReadyCheck: false,
    disableClientInfo: true,
  });
  const queue = new Queue("bare", {
    connection,
    skipVersionCheck: true,
    skipMetasUpdate: true,
    skipWaitingForReady: true,
  });
  await queue.add("generate", { id }, { removeOnComplete: true, removeOnFail: true });
  connection.disconnect();
  return c.json({ id }, 202);
});

export default bare;
