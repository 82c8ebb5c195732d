// The worker protocol of conformance/hosts/PROTOCOL.md for JavaScript libraries: float32 arrays, one process, no packages.
//
//     serve(implementations, versions)
//
// implementations: a list of { statement, answers }; answers(question, tensors) yields one {name: {shape, data}} per step.

"use strict";

function decode(body) {
  const start = 8 + Number(body.readBigUInt64LE(0));
  const { __metadata__: metadata = {}, ...entries } = JSON.parse(body.subarray(8, start).toString());
  const tensors = {};
  for (const [name, { shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    const bytes = Uint8Array.from(body.subarray(start + from, start + to)); // a copy, so that it is aligned
    tensors[name] = { shape, data: new Float32Array(bytes.buffer) };
  }
  return { metadata, tensors };
}

function encode(metadata, tensors) {
  const header = { __metadata__: metadata }, chunks = [];
  let offset = 0;
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [offset, (offset += data.byteLength)] };
    chunks.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }
  const text = Buffer.from(JSON.stringify(header));
  return Buffer.concat([length(text.length), text, ...chunks]);
}

function length(n) {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(n));
  return head;
}

function write(metadata, tensors = {}) {
  const body = encode(metadata, tensors);
  process.stdout.write(Buffer.concat([length(body.length), body]));
}

async function reply(body, hosted) {
  const { metadata, tensors } = decode(body);
  const request = JSON.parse(metadata.request);
  for (const implementation of request.implementations) {
    const started = process.cpuUsage(), outcomes = [], arrays = {};
    try {
      for await (const out of hosted[implementation](JSON.parse(metadata.case), tensors)) {
        for (const [name, tensor] of Object.entries(out)) arrays[`${outcomes.length}.${name}`] = tensor;
        outcomes.push({ type: "outputs" });
      }
    } catch (error) {
      outcomes.push({ type: "refused", error: error.name, message: error.message });
    }
    const cpu = process.cpuUsage(started).user / 1e6;
    write({ reply: JSON.stringify({ request: request.id, implementation, outcomes, cpu }) }, arrays);
  }
}

function serve(implementations, versions) {
  const device = process.env.BNCONF_DEVICE ?? "cpu";
  const available = device === "cpu", reason = available ? "" : `it has no device ${device}`;
  const listed = implementations.map(({ statement }) => ({ id: `${statement.id}@${device}`, available, reason, statement }));
  const hosted = Object.fromEntries(implementations.map(({ statement, answers }) => [`${statement.id}@${device}`, answers]));
  write({ hello: JSON.stringify({ protocol: 1, pid: process.pid, versions, implementations: listed }) });
  let unread = Buffer.alloc(0), last = Promise.resolve();
  process.stdin.on("data", (chunk) => {
    unread = Buffer.concat([unread, chunk]);
    while (unread.length >= 8) {
      const end = 8 + Number(unread.readBigUInt64LE(0));
      if (unread.length < end) return;
      const body = unread.subarray(8, end);
      last = last.then(() => reply(body, hosted)); // one after the other
      unread = unread.subarray(end);
    }
  });
}

module.exports = { serve };
