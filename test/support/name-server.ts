/** A name server for tests: it answers for the names that it knows, and is silent for others. */
import { createSocket } from "node:dgram";
import { once } from "node:events";

export interface NameServer {
  /** Address and port, as `Resolver.setServers` takes them. */
  readonly address: string;
  /** Every question received, such as "a.test A". */
  readonly questions: readonly string[];
  close(): void;
}

/** How a name is answered: with addresses (IPv4), with "absent", or (null) not at all. */
export type NameAnswer = readonly string[] | "absent" | null;

const TYPES: Readonly<Record<number, string>> = { 1: "A", 28: "AAAA" };
const ABSENT = 3;

/**
 * @param answer how a name is answered; every name has IPv4 addresses only
 * @param at where it listens; by default at a free port
 */
export async function startNameServer(
  answer: (name: string) => NameAnswer,
  ttlSeconds = 0,
  at = { host: "127.0.0.1", port: 0 },
): Promise<NameServer> {
  const questions: string[] = [];
  const socket = createSocket("udp4");
  socket.on("message", (query, { port, address }) => {
    const labels: string[] = [];
    let offset = 12;
    for (let length = query[offset]!; length > 0; length = query[offset]!) {
      labels.push(query.toString("latin1", offset + 1, offset + 1 + length));
      offset += 1 + length;
    }
    const name = labels.join(".");
    const type = query.readUInt16BE(offset + 1);
    questions.push(`${name} ${TYPES[type]}`);
    const found = answer(name);
    if (found === null) return;
    const isAbsent = found === "absent";
    const addresses = isAbsent || type !== 1 ? [] : found;
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(0x8180 | (isAbsent ? ABSENT : 0), 2);
    header.writeUInt16BE(addresses.length, 6);
    header.writeUInt32BE(0, 8);
    const records = addresses.map((text) => {
      const record = Buffer.from([
        0xc0,
        12,
        0,
        1,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        4,
        ...text.split(".").map(Number),
      ]);
      record.writeUInt32BE(ttlSeconds, 6);
      return record;
    });
    socket.send(Buffer.concat([header, query.subarray(12, offset + 5), ...records]), port, address);
  });
  socket.bind(at.port, at.host);
  await once(socket, "listening");
  return { address: `${at.host}:${socket.address().port}`, questions, close: () => socket.close() };
}
