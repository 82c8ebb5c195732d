// The run: columns out of the block of data in the page. pack.py describes the format, data.py the columns.

const CASE = ['id', 'name', 'cell', 'summary', 'file', 'kappa', 'recipe', 'steps'];
const ONE = 100, PER_DECADE = 16; // codes of the grid: ρ = 1, and how many codes a factor of ten is
let run = null;

async function load() {
  const text = atob(document.getElementById('data').textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  unpack(await new Response(stream).arrayBuffer());
}

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const types = { Uint8Array, Uint16Array, Uint32Array, Int8Array, Float32Array, Float64Array };
  const columns = {};
  for (const [name, c] of Object.entries(header.columns)) {
    columns[name] = { data: new types[c.type](buffer, 4 + length + c.offset, c.length), values: c.values };
  }
  const cases = header.cases.map((fields, index) => Object.assign({ index },
    Object.fromEntries(CASE.map((name, n) => [name, fields[n]]))));
  run = { columns, cases, implementations: header.implementations, samples: header.samples,
    reasons: header.reasons, porting: header.porting, attached: new Map() };
  for (const one of cases) if (one.kappa === 'inf') one.kappa = Infinity;
  columns.values.data = fromPlanes(columns.values.data);
  run.byCase = new Map(cases.map(c => [c.id, c]));
  run.byId = new Map(run.implementations.map((one, index) => [one.id, { ...one, index }]));
  run.groups = new Map(header.groups.map(one => [one.anchor, one]));
  run.kinds = kinds();
  place(run.samples);
  let offset = 0;
  for (const [id, size] of header.attached) run.attached.set(id, columns.attached.data.subarray(offset, offset += size));
}

// Numbers whose first bytes stand together, and so on: see pack.py.
function fromPlanes(values) {
  const size = values.BYTES_PER_ELEMENT, from = new Uint8Array(values.buffer, values.byteOffset, values.byteLength), bytes = new Uint8Array(from.length);
  for (let i = 0; i < from.length; i++) bytes[(i % values.length) * size + Math.floor(i / values.length)] = from[i];
  return new Float32Array(bytes.buffer);
}

function value(name, i) {
  const column = run.columns[name];
  return column.values ? column.values[column.data[i]] : column.data[i];
}

// What results are counted by: see tally.py.
function kinds() {
  const found = [];
  for (let i = 0; i < run.columns['kind.number'].data.length; i++) {
    const kind = { number: value('kind.number', i), worst: value('kind.worst', i), output: value('kind.column', i) };
    for (const name of ['implementation', 'check', 'dtype', 'verdict', 'standing', 'change', 'divergences']) {
      kind[name] = value(`kind.${name}`, i);
    }
    kind.framework = run.byId.get(kind.implementation)?.framework ?? '';
    kind.divergence = kind.divergences;
    kind.rows = [0, 0];
    found.push(kind);
  }
  const of = run.columns['row.kind'].data; // in order, so that the rows of a kind are neighbours
  for (let i = of.length - 1; i >= 0; i--) found[of[i]].rows[0] = i;
  for (let i = 0; i < of.length; i++) found[of[i]].rows[1] = i + 1;
  return found;
}

// Say where each sample's arrays are among the values.
function place(samples) {
  let offset = 0;
  for (const sample of samples) {
    sample.arrays = Object.fromEntries(sample.arrays.map(([name, rows, columns]) => {
      const values = run.columns.values.data.subarray(offset, offset += rows * columns);
      return [name, { rows, columns, values }];
    }));
  }
}

function row(i) {
  const kind = run.kinds[value('row.kind', i)];
  const one = { index: i, kind, case: value('row.case', i), step: value('row.step', i), rho: value('row.rho', i) };
  for (const name of ['how', 'at', 'ulps', 'numerics', 'said', 'expected', 'got', 'bound']) one[name] = value(`row.${name}`, i);
  return one;
}

function rows() {
  return run.columns['row.kind'].data.length;
}

// --- what is shown -----------------------------------------------------------------------------------------------

// Make an element; text is always text, never markup.
function el(name, properties = {}, ...children) {
  const svg = ['svg', 'rect', 'title', 'text', 'path'].includes(name);
  const made = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, given] of Object.entries(properties)) {
    if (given === undefined || given === null || given === false) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), given);
    else made.setAttribute(key, given === true ? '' : given);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined));
  return made;
}

function shown(x) {
  if (Number.isNaN(x)) return '–';
  if (!Number.isFinite(x)) return x > 0 ? '∞' : '−∞';
  return x !== 0 && (Math.abs(x) >= 1e4 || Math.abs(x) < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
}

function exact(x) {
  return Number.isNaN(x) ? 'NaN' : Number.isFinite(x) ? String(Number(x.toPrecision(9))) : shown(x);
}

function count(number, one, many) {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

// A command that can be copied; where a frame forbids the clipboard, it is selected.
function command(said, text) {
  const code = el('code', {}, text), heard = el('output', {});
  const copy = el('button', { type: 'button', onclick: () => copied(text, heard, code) }, 'Copy');
  return el('p', { class: 'command' }, said, code, ' ', copy, heard);
}

async function copied(text, heard, shownIn) {
  try { await navigator.clipboard.writeText(text); heard.textContent = ' copied'; } catch {
    getSelection().selectAllChildren(shownIn);
    heard.textContent = ' selected: copy it with the keyboard';
  }
}

const SIGNS = { PASS: '✓', FAIL: '✗', ERROR: '✗', INCONCLUSIVE: '–', UNSUPPORTED: '–', 'not asked': '–' };

function sign(kind) {
  return kind.standing === 'explained' ? '▲' : SIGNS[kind.verdict] ?? '';
}

function look(kind) {
  if (kind.standing) return kind.standing === 'explained' ? 'warn' : 'bad';
  return kind.verdict === 'PASS' ? 'good' : 'soft';
}
