/** Addresses that test/support/servers.ts passes to the tests. Types only: the edge's tests run in another runtime. */
export interface Servers {
  readonly redisUrl: string;
  /** A server that accepts connections and never answers. */
  readonly silentUrl: string;
}

declare module "vitest" {
  export interface ProvidedContext extends Servers {}
}
