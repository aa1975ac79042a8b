/** A redis-server of a test's own: on a free port, without persistence, gone with the test. */
export { startRedis } from "../../infra/stack/redis.ts";
