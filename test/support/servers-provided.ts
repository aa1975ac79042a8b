/** What test/support/servers.ts tells the tests. Types only, because the tests of the edge run in another runtime. */
export interface Servers {
  readonly redisUrl: string;
  /** A server that accepts connections and never answers. */
  readonly silentUrl: string;
}

declare module "vitest" {
  export interface ProvidedContext extends Servers {}
}
