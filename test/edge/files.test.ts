/** `/v1/files` as the official client meets it: small files in Redis, long ones in a bucket (test/stack/bucket.test.ts). */
import type OpenAI from "openai";
import { toFile } from "openai";
import { beforeEach, expect, test } from "vitest";
import { LIMITS } from "../../shared/limits.ts";
import { contentKey } from "../../shared/redis-keys.ts";
import { errorOf, newTenant, openaiOf, redis, type Client } from "./harness.ts";

const TEXT = '{"a": "é"}\n{"b": 2}\n';

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

const upload = (text: string | Uint8Array, name = "in.jsonl") =>
  toFile(new TextEncoder().encode(text as string), name);

async function create(text = TEXT): Promise<OpenAI.FileObject> {
  return openai.files.create({ file: await upload(text), purpose: "batch" });
}

test("a file is created, read, listed and deleted", async () => {
  const file = await create();
  const bytes = new TextEncoder().encode(TEXT).length;
  expect(file).toMatchObject({ object: "file", bytes, filename: "in.jsonl", purpose: "batch" });
  expect(file.expires_at! - file.created_at).toBe(LIMITS.fileSecondsMax);
  expect(await openai.files.retrieve(file.id)).toEqual(file);
  expect(await (await openai.files.content(file.id)).text()).toBe(TEXT);
  const second = await create();
  expect((await openai.files.list()).data.map(({ id }) => id)).toEqual([second.id, file.id]);
  expect((await openai.files.list({ purpose: "batch_output" })).data).toEqual([]);
  expect(await openai.files.delete(file.id)).toEqual({
    id: file.id,
    object: "file",
    deleted: true,
  });
  await expect(openai.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
  expect(await redis.exists(contentKey(file.id))).toBe(0);
});

test("what is larger than a chunk comes back byte by byte", async () => {
  const text = `${"0123456789é".repeat(60_000)}\n`;
  const file = await create(text);
  expect(await (await openai.files.content(file.id)).text()).toBe(text);
});

test("a file expires when it was asked to, and its content with it", async () => {
  const expires_after = { anchor: "created_at", seconds: 3_600 } as const;
  const file = await openai.files.create({
    file: await upload(TEXT),
    purpose: "batch",
    expires_after,
  });
  expect(file.expires_at).toBe(file.created_at + 3_600);
  expect(await redis.pttl(contentKey(file.id))).toBeLessThanOrEqual(3_600_000);
});

test("another tenant's file does not exist", async () => {
  const file = await create();
  const other = openaiOf(await newTenant());
  await expect(other.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
  await expect(other.files.content(file.id)).rejects.toMatchObject({ status: 404 });
  await expect(other.files.delete(file.id)).rejects.toMatchObject({ status: 404 });
  expect((await other.files.list()).data).toEqual([]);
});

const form = (fields: Record<string, string | Blob>) => {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return form;
};
const blob = new File([TEXT], "in.jsonl");

test.each([
  ["no file", { purpose: "batch" }, "file"],
  ["an empty file", { purpose: "batch", file: new File([""], "in.jsonl") }, "file"],
  ["no purpose", { file: blob }, "purpose"],
  ["another purpose", { purpose: "fine-tune", file: blob }, "purpose"],
  ["an unknown field", { purpose: "batch", file: blob, color: "red" }, "color"],
  [
    "another anchor",
    { purpose: "batch", file: blob, "expires_after[anchor]": "now" },
    "expires_after.anchor",
  ],
  [
    "text that is none",
    { purpose: "batch", file: new File([new Uint8Array([0xff, 10])], "x") },
    "file",
  ],
])("refused, with nothing kept: %s", async (_, fields, param) => {
  const request = new Request("http://x", { method: "POST", body: form(fields) });
  const reply = await tenant.post(
    "/v1/files",
    await request.arrayBuffer().then((b) => new Uint8Array(b)),
    {
      "content-type": request.headers.get("content-type")!,
    },
  );
  expect(await errorOf(reply)).toMatchObject({ status: 400, param });
  expect((await openai.files.list()).data).toEqual([]);
});

test.each([
  ["no form", "application/json", "{}"],
  ["no boundary", "multipart/form-data; x=y", "--a--"],
  ["one that breaks off", "multipart/form-data; boundary=a", "--a\r\ncontent-disp"],
])("a body that is %s is refused", async (_, type, body) => {
  const reply = await tenant.post("/v1/files", body, { "content-type": type });
  expect(await errorOf(reply)).toMatchObject({ status: 400, code: "invalid_request" });
});

test("one that is too long is cut off while it is read", async () => {
  const head = '--a\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n';
  const chunk = new Uint8Array(2 ** 20).fill(97);
  let chunks = 0;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(head)),
    pull(controller) {
      chunks++;
      controller.enqueue(chunk);
    },
  });
  const reply = await tenant.post("/v1/files", body, {
    "content-type": "multipart/form-data; boundary=a",
  });
  expect(await errorOf(reply)).toMatchObject({ status: 413, param: "file" });
  expect(chunks * chunk.length).toBeLessThan(2 * LIMITS.fileInRedisBytesMax);
});
