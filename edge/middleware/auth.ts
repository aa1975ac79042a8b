/** From the bearer key to the principal. Only the key's hash is known to the backend. */
import { createMiddleware } from "hono/factory";
import { hashApiKey } from "../../shared/api-key.ts";
import { AppError } from "../../shared/errors.ts";
import type { AppEnv } from "../context.ts";

/** A token as RFC 6750 spells it, bounded, so that no megabyte of header is hashed. */
const BEARER = /^Bearer +([\w.~+/-]{1,256}=*) *$/i;

/** @throws AppError invalid_api_key */
export const authenticate = createMiddleware<AppEnv>(async (c, next) => {
  const key = BEARER.exec(c.req.header("authorization") ?? "")?.[1];
  const principal = key && (await c.var.backend.authenticate(await hashApiKey(key)));
  if (!principal) {
    c.header("WWW-Authenticate", 'Bearer realm="trimtab"');
    const given = key
      ? "This API key is not known"
      : "Expected an API key: `Authorization: Bearer …`";
    throw new AppError("invalid_api_key", given);
  }
  c.set("principal", principal);
  await next();
});
