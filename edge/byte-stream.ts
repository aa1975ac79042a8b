/** A reply whose body is read only as fast as its reader takes it. */
import type { AppContext } from "./context.ts";

export function byteStream(
  c: AppContext,
  source: AsyncIterable<Uint8Array>,
  headers: Record<string, string>,
): Response {
  // A HEAD request is served by the route for GET, and nobody would ever read or cancel its body.
  if (c.req.method === "HEAD") return c.body(null, 200, headers);
  const chunks = source[Symbol.asyncIterator]();
  const ended = Promise.withResolvers<unknown>();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await chunks.next();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        // The status was sent: that the body is cut off is all that can be told.
        controller.error(error);
      }
      ended.resolve(null);
    },
    async cancel() {
      await chunks.return?.();
      ended.resolve(null);
    },
  });
  c.set("streamEnd", ended.promise);
  return c.body(body, 200, headers);
}
