/**
 * A Hugging Face hub for tests: the API of revisions and trees (in pages), files by `resolve`, and a second server for large
 * files, to which the hub redirects and which refuses tokens, as object stores do.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** 40 hexadecimal digits. */
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";
/** Larger files are LFS files. */
const LARGE_BYTES = 1_000;
const PAGE_FILES = 3;

export interface HubOptions {
  readonly name: string;
  readonly files: Readonly<Record<string, Buffer>>;
  /** Token without which nothing is answered. */
  readonly token?: string;
}

/** The faults of the next requests for contents, the first entry first. */
export type Trouble =
  | { readonly kind: "status"; readonly status: number; readonly retryAfter?: string }
  /** The connection breaks after so many bytes, once the client has them (`clientHas`): it may lose those that it has not read. */
  | { readonly kind: "break"; readonly bytes: number }
  /** Ranges are ignored. */
  | { readonly kind: "whole" }
  /** Other bytes of the same length. */
  | { readonly kind: "corrupt" };

export class HubServer {
  readonly troubles: Trouble[] = [];
  /** Requests of contents: path and range. */
  readonly transfers: { readonly path: string; readonly range: string | undefined }[] = [];
  /** Count of replies of the API with status 429 that are still to be given. */
  apiRefusals = 0;
  #break: { readonly bytes: number; readonly end: () => void } | null = null;
  readonly #options: HubOptions;
  readonly #hub: Server;
  readonly #store: Server;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#hub = createServer((request, response) => this.#answer(request, response));
    this.#store = createServer((request, response) => this.#answerStore(request, response));
  }

  /** Called with the bytes that the client has of the file whose transfer is to break. */
  clientHas(bytes: number): void {
    if (this.#break === null || bytes < this.#break.bytes) return;
    this.#break.end();
    this.#break = null;
  }

  async start(): Promise<void> {
    for (const server of [this.#hub, this.#store]) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    }
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#store]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  get url(): string {
    return urlOf(this.#hub);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { name, token } = this.#options;
    const { pathname, searchParams } = new URL(request.url!, this.url);
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      return sendJson(response, 401, { error: "Invalid credentials" });
    }
    const isApi = pathname.startsWith("/api/");
    if (isApi && this.apiRefusals > 0) {
      this.apiRefusals--;
      response.setHeader("retry-after", "0");
      return sendJson(response, 429, { error: "Too many requests" });
    }
    if (pathname.startsWith(`/api/models/${name}/revision/`)) {
      const revision = decodeURIComponent(pathname.split("/").at(-1)!);
      if (!["main", "v1", COMMIT].includes(revision)) return sendJson(response, 404, {});
      return sendJson(response, 200, {
        _id: "1",
        id: name,
        sha: COMMIT,
        lastModified: "2026-01-01T00:00:00.000Z",
      });
    }
    if (pathname === `/api/models/${name}/tree/${COMMIT}`) {
      return this.#sendTree(response, Number(searchParams.get("cursor") ?? 0));
    }
    const prefix = `/${name}/resolve/${COMMIT}/`;
    const path = pathname.startsWith(prefix)
      ? decodeURIComponent(pathname.slice(prefix.length))
      : "";
    const content = this.#options.files[path];
    if (!content) return sendJson(response, 404, { error: "Not found" });
    if (content.length < LARGE_BYTES) return this.#sendContent(request, response, path);
    response.writeHead(302, { location: `${urlOf(this.#store)}/${path}` }).end();
  }

  #answerStore(request: IncomingMessage, response: ServerResponse): void {
    if (request.headers.authorization !== undefined) {
      response.writeHead(400).end("only one way to authorize is allowed");
      return;
    }
    this.#sendContent(request, response, decodeURIComponent(request.url!.slice(1)));
  }

  #sendTree(response: ServerResponse, start: number): void {
    const entries = Object.entries(this.#options.files).map(([path, content]) => {
      const isLarge = content.length >= LARGE_BYTES;
      const gitHash = createHash("sha1").update(`blob ${content.length}\0`).update(content);
      const oid = createHash("sha256").update(content).digest("hex");
      const lfs = { oid, size: content.length, pointerSize: 130 };
      return {
        type: "file",
        path,
        size: content.length,
        oid: gitHash.digest("hex"),
        ...(isLarge && { lfs }),
      };
    });
    const folders = [{ type: "directory", path: "onnx", size: 0, oid: "0" }];
    const all = [...folders, ...entries];
    if (start + PAGE_FILES < all.length) {
      const next = `${this.url}/api/models/${this.#options.name}/tree/${COMMIT}?recursive=true&cursor=${start + PAGE_FILES}`;
      response.setHeader("link", `<${next}>; rel="next"`);
    }
    sendJson(response, 200, all.slice(start, start + PAGE_FILES));
  }

  #sendContent(request: IncomingMessage, response: ServerResponse, path: string): void {
    const content = this.#options.files[path]!;
    const { range } = request.headers;
    this.transfers.push({ path, range });
    const trouble = this.troubles.shift();
    if (trouble?.kind === "status") return sendStatus(response, trouble);
    const isPart = range !== undefined && trouble?.kind !== "whole";
    const start = isPart ? Number(/^bytes=(\d+)-$/.exec(range)?.[1]) : 0;
    const part = content.subarray(start);
    response.writeHead(isPart ? 206 : 200, {
      "content-length": part.length,
      ...(isPart && {
        "content-range": `bytes ${start}-${content.length - 1}/${content.length}`,
      }),
    });
    if (trouble?.kind === "break") {
      response.write(part.subarray(0, trouble.bytes));
      this.#break = { bytes: start + trouble.bytes, end: () => response.destroy() };
    } else response.end(trouble?.kind === "corrupt" ? Buffer.alloc(part.length, "x") : part);
  }
}

function sendStatus(
  response: ServerResponse,
  { status, retryAfter }: { readonly status: number; readonly retryAfter?: string },
): void {
  if (retryAfter !== undefined) response.setHeader("retry-after", retryAfter);
  response.writeHead(status).end();
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

const urlOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
