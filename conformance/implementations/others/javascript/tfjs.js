// TensorFlow.js: tf.layers.batchNormalization on the CPU backend, differentiated by tf.variableGrads.
//
//     npm install @tensorflow/tfjs@4.22.0
//     NODE_PATH=$PWD/node_modules bnconf run -i 'exec:node conformance/implementations/others/javascript/tfjs.js'

"use strict";

console.log = console.warn = console.error; // standard output is the protocol's
const tf = require("@tensorflow/tfjs");
const { serve } = require("./worker.js");

const DOCS = "https://js.tensorflow.org/api/4.22.0/#layers.batchNormalization";
const SOURCE = "https://github.com/tensorflow/tfjs/blob/tfjs-v4.22.0/tfjs-layers/src/layers/";
const none = "the layer has no such argument";
const statement = {
  id: "tfjs.layers.batchNormalization",
  packages: ["tfjs"],
  documentation: DOCS,
  conventions: { momentum: "kept", axis: "kept" },
  supports: { dtype: ["float32"], rank: [2, 3, 4], channel: ["second", "last"], start: ["given", "own"] },
  outputs: ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance"],
  lacks: {
    forward: "the library has no forward mode", "second order": "not asked", mask: none, renorm: none, "virtual batch": none,
    adjustment: none,
  },
  refusals: [
    { when: { reranked: [true] }, error: ["Error"], cite: SOURCE + "normalization.ts: build, this.inputSpec = [new InputSpec({ndim: …})]" },
  ],
  rules: [
    {
      cite: SOURCE + "normalization.ts: tf.moments, the mean as a sum of x / N, which is 0 of no values",
      semantics: { stored_variance: "biased", frozen: "train", empty_batch: "zero" },
      numerics: { variance: "two_pass", affine: "direct", sums: "serial" },
    },
  ],
};

function built(question, tensors) {
  const { spec } = question, { axis, momentum, epsilon, center, scale } = spec;
  const layer = tf.layers.batchNormalization({ axis, momentum, epsilon, center, scale });
  layer.build(tensors["0.x"].shape);
  const given = { gamma: layer.gamma, beta: layer.beta, moving_mean: layer.movingMean, moving_variance: layer.movingVariance };
  for (const [name, variable] of Object.entries(given)) {
    if (variable && tensors[name]) variable.write(tf.tensor(tensors[name].data, tensors[name].shape));
  }
  return layer;
}

function differentiated(forward, dy, variables) {
  let y;
  const loss = () => (y = forward()).mul(tf.tensor(dy.data, dy.shape)).sum();
  const { grads } = tf.variableGrads(loss, variables);
  return [y, grads];
}

function* answers(question, tensors) {
  const layer = built(question, tensors);
  const put = (tensor) => ({ shape: tensor.shape, data: Float32Array.from(tensor.dataSync()) });
  try {
    for (const [t, step] of question.steps.entries()) {
      const x = tf.variable(tf.tensor(tensors[`${t}.x`].data, tensors[`${t}.x`].shape)), dy = tensors[`${t}.dy`];
      const variables = { dx: x, dgamma: layer.gamma?.val, dbeta: layer.beta?.val };
      const forward = () => tf.keep(layer.apply(x, { training: step.mode === "train" }));
      const named = dy ? Object.entries(variables).filter(([, variable]) => variable) : [];
      const [y, grads] = dy ? differentiated(forward, dy, named.map(([, variable]) => variable)) : [forward(), {}];
      const out = { y: put(y), moving_mean: put(layer.movingMean.read()), moving_variance: put(layer.movingVariance.read()) };
      for (const [name, variable] of named) out[name] = put(grads[variable.name]);
      yield out;
    }
  } finally {
    tf.disposeVariables();
  }
}

tf.setBackend("cpu").then(() => serve([{ statement, answers }], { node: process.versions.node, tfjs: tf.version.tfjs }));
