/**
 * The references for the edge: Hono alone, and Hono with only BullMQ's `queue.add`, in a Node process with one connection to Redis.
 * Configured by REDIS_URL and PORT.
 */
import { serve } from "@hono/node-server";
import { Queue } from "bullmq";
import { Hono } from "hono";
import { Redis } from "ioredis";

const { REDIS_URL = "", PORT = "0" } = process.env;
const connection = new Redis(REDIS_URL, { maxRetriesPerRequest: null });
const queue = new Queue("bare", { connection });
const bare = new Hono();

bare.get("/hono", (c) => c.json({ status: "ok" }));

bare.post("/add", async (c) => {
  const { id } = await c.req.json<{ id: string }>();
  await queue.add("generate", { id }, { removeOnComplete: true, removeOnFail: true });
  return c.json({ id }, 202);
});

serve({ fetch: bare.fetch, hostname: "127.0.0.1", port: Number(PORT) });
