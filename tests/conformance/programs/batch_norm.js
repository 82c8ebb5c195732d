// Batch normalization in JavaScript, behind the worker protocol of conformance/hosts/PROTOCOL.md:
//
//     bnconf run -i 'exec:node batch_norm.js'
//
// Node.js 18 or later, no packages. Any kept axes, training, inference and gradients; float32 in, float32 out.

"use strict";

const statement = {
  id: "javascript.batch_norm",
  packages: ["node"],
  documentation: "this file",
  conventions: { momentum: "kept", axis: "kept" },
  supports: { dtype: ["float32"], start: ["given", "own"] },
  outputs: ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean", "variance"],
  rules: [
    {
      cite: "this file: two passes, float64 sums, each result rounded to float32",
      semantics: { stored_variance: "biased", frozen: "train" },
      numerics: { variance: "two_pass", affine: "direct", sums: "serial" },
    },
  ],
};

// --- batch normalization -----------------------------------------------------------------------------------------

// Which channel each element of a C-ordered array belongs to: its index along the kept axes.
function channels(shape, kept) {
  const owner = new Uint32Array(shape.reduce((a, b) => a * b, 1));
  let inner = owner.length;
  for (let axis = 0; axis < shape.length; axis++) {
    inner /= shape[axis];
    if (!kept.includes(axis)) continue;
    for (let i = 0; i < owner.length; i++) owner[i] = owner[i] * shape[axis] + (Math.floor(i / inner) % shape[axis]);
  }
  return owner;
}

// The sum over each channel of f(element index).
function sums(owner, count, f) {
  const total = new Float64Array(count);
  for (let i = 0; i < owner.length; i++) total[owner[i]] += f(i);
  return total;
}

function moments(x, owner, count) {
  const n = x.length / count;
  const mean = sums(owner, count, (i) => x[i]).map((s) => s / n);
  const variance = sums(owner, count, (i) => (x[i] - mean[owner[i]]) ** 2).map((s) => s / n);
  return { mean, variance };
}

// Answer a case: one {name: {shape, data}} per step.
function* answers(question, tensors) {
  const { spec, steps } = question;
  const axes = (rank) => [spec.axis].flat().map((a) => (a < 0 ? a + rank : a));
  const kept = axes(tensors["0.x"].shape.length);
  const sizes = tensors["0.x"].shape.map((size, i) => (kept.includes(i) ? size : 1));
  const shape = kept.length === 1 ? [sizes[kept[0]]] : sizes;
  const count = sizes.reduce((a, b) => a * b, 1);
  const given = (name, otherwise) => (tensors[name] ? tensors[name].data : new Float32Array(count).fill(otherwise));
  const gamma = given("gamma", 1), beta = given("beta", 0);
  let mean = given("moving_mean", 0), variance = given("moving_variance", 1);
  for (const [t, step] of steps.entries()) {
    const x = tensors[`${t}.x`], dy = tensors[`${t}.dy`], training = step.mode === "train";
    const here = axes(x.shape.length); // one layer may be called with inputs of other ranks
    if (here.some((a, i) => x.shape[a] !== sizes[kept[i]])) throw new RangeError(`step ${t} has other channels than step 0`);
    const owner = channels(x.shape, here), out = {};
    const put = (name, like, data) => (out[name] = { shape: like, data: Float32Array.from(data) });
    let used = { mean, variance };
    if (training) {
      used = moments(x.data, owner, count);
      const moved = (old, now) => Float32Array.from(old, (v, c) => spec.momentum * v + (1 - spec.momentum) * now[c]);
      mean = moved(mean, used.mean);
      variance = moved(variance, used.variance);
      put("mean", shape, used.mean);
      put("variance", shape, used.variance);
    }
    const r = Array.from(used.variance, (v) => 1 / Math.sqrt(v + spec.epsilon));
    const z = Float64Array.from(x.data, (v, i) => (v - used.mean[owner[i]]) * r[owner[i]]);
    put("y", x.shape, z.map((v, i) => gamma[owner[i]] * v + beta[owner[i]]));
    put("moving_mean", shape, mean);
    put("moving_variance", shape, variance);
    if (dy) {
      const dgamma = sums(owner, count, (i) => dy.data[i] * z[i]), dbeta = sums(owner, count, (i) => dy.data[i]);
      const n = x.data.length / count; // in inference the statistics are constants
      const through = (v, i) => (training ? v - dbeta[owner[i]] / n - (z[i] * dgamma[owner[i]]) / n : v);
      put("dx", x.shape, Float64Array.from(dy.data, (v, i) => gamma[owner[i]] * r[owner[i]] * through(v, i)));
      if (spec.scale) put("dgamma", shape, dgamma);
      if (spec.center) put("dbeta", shape, dbeta);
    }
    yield out;
  }
}

// --- safetensors: an 8-byte length, a JSON header, a buffer ------------------------------------------------------

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

// --- the conversation: hello, then an answer to each request -----------------------------------------------------

function write(metadata, tensors = {}) {
  const body = encode(metadata, tensors);
  process.stdout.write(Buffer.concat([length(body.length), body]));
}

function reply(body) {
  const { metadata, tensors } = decode(body);
  const request = JSON.parse(metadata.request);
  for (const implementation of request.implementations) {
    const started = process.cpuUsage(), outcomes = [], arrays = {};
    try {
      for (const out of answers(JSON.parse(metadata.case), tensors)) {
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

const device = process.env.BNCONF_DEVICE ?? "cpu";
const available = device === "cpu", reason = available ? "" : `JavaScript has no device ${device}`;
const implementations = [{ id: `${statement.id}@${device}`, available, reason, statement }];
const versions = { node: process.versions.node };
write({ hello: JSON.stringify({ protocol: 1, pid: process.pid, versions, implementations }) });

let unread = Buffer.alloc(0);
process.stdin.on("data", (chunk) => {
  unread = Buffer.concat([unread, chunk]);
  while (unread.length >= 8) {
    const end = 8 + Number(unread.readBigUInt64LE(0));
    if (unread.length < end) return;
    reply(unread.subarray(8, end));
    unread = unread.subarray(end);
  }
});
