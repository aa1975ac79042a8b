/** Which error replies of Redis mean that it cannot serve now (503), and which mean a bug (500). */
import { expect, test } from "vitest";
import { isFailureReply } from "../../../shared/redis/failure.ts";

test.each([
  "ERR max number of clients reached",
  "ERR max number of clients + cluster connections reached",
  "LOADING Redis is loading the dataset in memory",
  "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
  "UNKILLABLE Sorry the script already executed write commands against the dataset.",
  "OOM command not allowed when used memory > 'maxmemory'.",
  "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
  "READONLY You can't write against a read only replica.",
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  "NOREPLICAS Not enough good replicas to write.",
  "NOAUTH Authentication required.",
  "WRONGPASS invalid username-password pair or user is disabled.",
  "NOPERM User default has no permissions to run the 'eval' command",
  "ERR invalid password",
  "ERR AUTH <password> called without any password configured for the default user.",
  "ERR Client sent AUTH, but no password is set",
  "CLUSTERDOWN Hash slot not served",
  "TRYAGAIN Multiple keys request during rehashing of slot",
  "MOVED 3999 127.0.0.1:6381",
  "ASK 3999 127.0.0.1:6381",
  "IOERR error or timeout reading to target instance",
  // Redis 6.2, for a command in a script.
  "ERR Error running script (call to f_1a): @user_script:1: @user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.",
  "ERR Error running script (call to f_1a): @user_script:3: -READONLY You can't write against a read only replica.",
])("503: %s", (reply) => {
  expect(isFailureReply(reply)).toBe(true);
});

test.each([
  "ERR unknown command 'NOSUCH', with args beginning with: ",
  "ERR value is not an integer or out of range",
  "ERR syntax error",
  "WRONGTYPE Operation against a key holding the wrong kind of value",
  "NOSCRIPT No matching script. Please use EVAL.",
  "BUSYKEY Target key name already exists.",
  "CROSSSLOT Keys in request don't hash to the same slot",
  "ERR Error running script (call to f_1a): @user_script:1: -WRONGTYPE Operation against a key",
  "ERR Error running script (call to f_1a): @user_script:1: user_script:1: attempt to index a nil value",
])("500: %s", (reply) => {
  expect(isFailureReply(reply)).toBe(false);
});
