/** `/v1/files` with the official client: small files, which are in Redis. test/stack/bucket.test.ts has large ones. */
import type OpenAI from "openai";
import { toFile } from "openai";
import { beforeEach, expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { contentKey, fileRoomKey, fileUploadsKey } from "../../../shared/redis/keys.ts";
import { errorOf, newTenant, openaiOf, redis, type Client } from "../harness.ts";

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

test("a file larger than one chunk is returned byte for byte", async () => {
  const text = `${"0123456789é".repeat(60_000)}\n`;
  const file = await create(text);
  expect(await (await openai.files.content(file.id)).text()).toBe(text);
});

test("a file and its content expire at the requested time", async () => {
  const expires_after = { anchor: "created_at", seconds: 3_600 } as const;
  const file = await openai.files.create({
    file: await upload(TEXT),
    purpose: "batch",
    expires_after,
  });
  expect(file.expires_at).toBe(file.created_at + 3_600);
  expect(await redis.pttl(contentKey(file.id))).toBeLessThanOrEqual(3_600_000);
});

test("another tenant's file is not found", async () => {
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
    "content that is not UTF-8",
    { purpose: "batch", file: new File([new Uint8Array([0xff, 10])], "x") },
    "file",
  ],
])("an upload with %s is refused, and nothing of it is kept", async (_, fields, param) => {
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
  ["is not a form", "application/json", "{}"],
  ["has no boundary", "multipart/form-data; x=y", "--a--"],
  ["ends too early", "multipart/form-data; boundary=a", "--a\r\ncontent-disp"],
])("a body that %s is refused", async (_, type, body) => {
  const reply = await tenant.post("/v1/files", body, { "content-type": type });
  expect(await errorOf(reply)).toMatchObject({ status: 400, code: "invalid_request" });
});

test("a file that is too long is refused while it is read", async () => {
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

test("uploads that wait for their body have a limit for each tenant, and each gives its place back", async () => {
  const head = '--a\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n{}';
  const type = { "content-type": "multipart/form-data; boundary=a" };
  const endings: (() => void)[] = [];
  const openUpload = () => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(head));
        endings.push(() => controller.close());
      },
    });
    return tenant.post("/v1/files", body, type);
  };
  const open = Array.from({ length: LIMITS.uploadsPerTenantMax }, openUpload);
  const uploads = () => redis.zcard(fileUploadsKey(tenant.tenant));
  await expect.poll(uploads, { timeout: 10_000 }).toBe(LIMITS.uploadsPerTenantMax);
  expect(await errorOf(await openUpload())).toMatchObject({
    status: 429,
    code: "rate_limit_exceeded",
  });
  for (const end of endings.slice(0, open.length)) end();
  // The forms have no end, so the uploads are refused.
  for (const reply of await Promise.all(open)) expect(reply.status).toBe(400);
  expect(await uploads()).toBe(0);
  expect(await redis.hgetall(fileRoomKey(tenant.tenant))).toEqual({ batch: "0" });
});
