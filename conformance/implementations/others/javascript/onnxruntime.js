// ONNX Runtime for Node.js: the operator BatchNormalization of opset 15 on its CPU provider, one thread. It has no gradients.
//
//     npm install --onnxruntime-node-install=skip onnxruntime-node@1.30.0
//     NODE_PATH=$PWD/node_modules bnconf run -i 'exec:node conformance/implementations/others/javascript/onnxruntime.js'
//
// Parameters and statistics are constants of a model that is written for each step; what a step's model returns become
// constants of the next.

"use strict";

console.log = console.warn = console.error; // standard output is the protocol's
const ort = require("onnxruntime-node");
const { model } = require("./onnx.js");
const { serve } = require("./worker.js");

const DOCS = "https://onnx.ai/onnx/operators/onnx__BatchNormalization.html";
const KERNEL = "https://github.com/microsoft/onnxruntime/blob/v1.30.0/onnxruntime/core/providers/cpu/nn/batch_norm.h";
const none = "the operator has no such input or attribute", underived = "the operator has no derivatives";
const statement = {
  id: "onnxruntime-node.BatchNormalization+opset15",
  packages: ["onnxruntime-node"],
  documentation: DOCS,
  conventions: { momentum: "kept", axis: "fixed" },
  supports: { dtype: ["float32"], rank: [2, 3, 4, 5, 6], channel: ["second"], start: ["given", "own"] },
  outputs: ["y", "moving_mean", "moving_variance"],
  lacks: {
    gradient: underived, forward: underived, "second order": underived, mask: none, renorm: none, "virtual batch": none, adjustment: none,
  },
  rules: [
    {
      cite: `${KERNEL}; ${DOCS}: ReduceVar refers to the population variance, momentum is kept`,
      semantics: { stored_variance: "biased", frozen: "train" },
      numerics: { variance: "two_pass", affine: "folded", sums: "serial" },
    },
  ],
};
const START = { gamma: 1, beta: 0, moving_mean: 0, moving_variance: 1 };

function given(tensors) {
  const channels = tensors["0.x"].shape[1];
  const own = ([name, value]) => [name, { shape: [channels], data: new Float32Array(channels).fill(value) }];
  const start = Object.fromEntries(Object.entries(START).map(own));
  return Object.fromEntries(Object.keys(START).map((name) => [name, tensors[name] ?? start[name]]));
}

function written({ epsilon, momentum }, constants, shape, training) {
  const channels = constants.moving_mean.shape, state = { new_moving_mean: channels, new_moving_variance: channels };
  const attributes = training ? { epsilon, momentum, training_mode: 1 } : { epsilon, momentum };
  return model("BatchNormalization", 15, { x: shape }, constants, { y: shape, ...(training && state) }, attributes);
}

async function* answers(question, tensors) {
  const constants = given(tensors);
  for (const [t, step] of question.steps.entries()) {
    const { shape, data } = tensors[`${t}.x`], bytes = written(question.spec, constants, shape, step.mode === "train");
    const session = await ort.InferenceSession.create(bytes, { intraOpNumThreads: 1, interOpNumThreads: 1 });
    const found = await session.run({ x: new ort.Tensor("float32", data, shape) });
    const out = Object.fromEntries(Object.entries(found).map(([name, { dims, data }]) => [name.replace("new_", ""), { shape: dims.map(Number), data }]));
    await session.release();
    for (const name of ["moving_mean", "moving_variance"]) constants[name] = out[name] ??= constants[name];
    yield out;
  }
}

serve([{ statement, answers }], { node: process.versions.node, "onnxruntime-node": ort.env.versions.node });
