/** A remote base whose server is called without HTTP. */
import type { BaseApi } from "../../../worker/engine/remote/api.ts";
import { RefusedStream } from "../../../worker/engine/remote/base-row.ts";
import { RemoteBase, type RemoteBaseOptions } from "../../../worker/engine/remote/remote-base.ts";
import { RemoteDecoder } from "../../../worker/engine/remote/remote-decoder.ts";
import type { BaseRoutes } from "./server.ts";

export interface InProcess {
  readonly api: BaseApi;
  readonly routes: BaseRoutes;
  readonly vocabSize: number;
  readonly top: number;
  readonly rowsMax?: number;
}

export function inProcess({ api, routes, vocabSize, top, rowsMax = 8 }: InProcess): RemoteDecoder {
  const connection: RemoteBaseOptions["connection"] = {
    call: async ({ path, body, parse }) => {
      const reply = await routes(path, JSON.parse(JSON.stringify(body ?? {})) as never);
      const text = JSON.stringify(reply!.body);
      if ((reply!.status ?? 200) !== 200) throw new Error(text);
      return { value: parse(JSON.parse(text)), bytesSent: 0, bytesReceived: text.length };
    },
    events: async function* ({ path, body, signal }) {
      const reply = await routes(path, JSON.parse(JSON.stringify(body)) as never);
      if (reply!.status) throw new RefusedStream(`its stream has the status ${reply!.status}`);
      for await (const event of reply!.events!) {
        signal.throwIfAborted();
        if (event === null) continue;
        const text = JSON.stringify(event);
        yield { value: JSON.parse(text), bytes: text.length };
      }
    },
    close: async () => {},
    beforeTry: async () => {},
    onFailure: () => {},
    onAway: () => {},
    onDisconnect: () => {},
  };
  return new RemoteDecoder(
    new RemoteBase({ api, connection, name: "base", vocabSize, top, rowsMax }),
  );
}
