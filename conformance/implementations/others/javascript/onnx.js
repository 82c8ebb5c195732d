// An ONNX model of one operator, written as https://github.com/onnx/onnx/blob/v1.23.2/onnx/onnx.proto has it. No packages.
//
//     model(operator, opset, inputs, constants, outputs, attributes)
//
// inputs, outputs: shapes by name; constants: { shape, data } by name; attributes: numbers, which are integers where they
// are named so below. All arrays are float32.

"use strict";

const FLOAT = 1, VARINT = 0, BYTES = 2, FOUR = 5; // a dtype; wire types of protocol buffers
const INTEGERS = ["training_mode"];

function varint(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  return Buffer.from([...bytes, number]);
}

const whole = (field, number) => Buffer.concat([varint(field * 8 + VARINT), varint(number)]);

function bytes(field, ...parts) {
  const body = Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
  return Buffer.concat([varint(field * 8 + BYTES), varint(body.length), body]);
}

function real(field, number) {
  const four = Buffer.alloc(4);
  four.writeFloatLE(number);
  return Buffer.concat([varint(field * 8 + FOUR), four]);
}

function attribute([name, number]) {
  const value = INTEGERS.includes(name) ? [whole(3, number), whole(20, 2)] : [real(2, number), whole(20, 1)];
  return bytes(5, bytes(1, name), ...value);
}

function constant([name, { shape, data }]) {
  const raw = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return bytes(5, ...shape.map((size) => whole(1, size)), whole(2, FLOAT), bytes(8, name), bytes(9, raw));
}

function declared(field, name, shape) {
  const sizes = bytes(2, ...shape.map((size) => bytes(1, whole(1, size))));
  return bytes(field, bytes(1, name), bytes(2, bytes(1, whole(1, FLOAT), sizes)));
}

function model(operator, opset, inputs, constants, outputs, attributes) {
  const names = [...Object.keys(inputs), ...Object.keys(constants)].map((name) => bytes(1, name));
  const results = Object.keys(outputs).map((name) => bytes(2, name));
  const node = bytes(1, ...names, ...results, bytes(4, operator), ...Object.entries(attributes).map(attribute));
  const graph = bytes(
    7,
    node,
    bytes(2, "case"),
    ...Object.entries(constants).map(constant),
    ...Object.entries(inputs).map(([name, shape]) => declared(11, name, shape)),
    ...Object.entries(outputs).map(([name, shape]) => declared(12, name, shape)),
  );
  return Buffer.concat([whole(1, 8), graph, bytes(8, bytes(1, ""), whole(2, opset))]);
}

module.exports = { model };
