/** A reply whose body is produced only as fast as its reader takes it. */
import type { AppContext } from "./context.ts";

/**
 * The first chunk is read before the reply begins, so that an error there can still set the status of the reply.
 * @throws the error of the source, if it fails before its first chunk
 */
export async function byteStream(
  c: AppContext,
  source: AsyncIterable<Uint8Array>,
  headers: Record<string, string>,
): Promise<Response> {
  // A HEAD request is served by the route for GET, and its body would never be read or cancelled.
  if (c.req.method === "HEAD") return c.body(null, 200, headers);
  const chunks = source[Symbol.asyncIterator]();
  let next: IteratorResult<Uint8Array> | null = await chunks.next();
  const ended = Promise.withResolvers<unknown>();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = next ?? (await chunks.next());
        next = null;
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        // The status was sent before: the reader can only see that the body is incomplete.
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
