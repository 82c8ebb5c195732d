// Judge the answer beside one vector: node reader.js FOLDER. Exits 1 where it is wrong.
const fs = require("node:fs");

function load(stem) {
  const body = fs.readFileSync(`${stem}.bin`);
  const rows = fs.readFileSync(`${stem}.txt`, "utf8").split("\n").map((line) => line.split(" ")).filter((words) => words.length > 4);
  return rows.map(([role, name, dtype, offset, , ...sizes]) => {
    const count = sizes.reduce((product, size) => product * Number(size), 1);
    const [width, read] = dtype === "float32" ? [4, "readFloatLE"] : [8, "readDoubleLE"];
    return { role, name, values: () => Array.from({ length: count }, (_, i) => body[read](Number(offset) + width * i)) };
  });
}

const folder = process.argv[2];
const lines = load(`${folder}/case`);
const find = (role, name) => lines.find((line) => line.role === role && line.name === name);
for (const { name, values } of load(`${folder}/answer`)) {
  if (!find("expected", name)) continue; // nothing is promised of it
  const [expected, allowed] = [find("expected", name).values(), find("allowed", name).values()];
  values().forEach((got, i) => {
    const right = Number.isNaN(expected[i]) ? Number.isNaN(got) : got === expected[i] || Math.abs(got - expected[i]) <= allowed[i];
    if (right || allowed[i] === Infinity) return;
    console.log(`${name}[${i}] is ${got}, expected ${expected[i]} +- ${allowed[i]}`);
    process.exitCode = 1;
  });
}
