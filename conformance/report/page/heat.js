// Small heat maps: a shade for each element, its number on pointing, and all numbers as a table.

const CELL = 18;

function heatMap(name, array, worst) {
  const largest = Math.max(0, ...[...array.values].filter(Number.isFinite).map(Math.abs));
  const cells = [];
  for (let r = 0; r < array.rows; r++) {
    for (let c = 0; c < array.columns; c++) {
      const x = array.values[r * array.columns + c], here = name !== 'x' && r === worst[0] && c === worst[1];
      cells.push(el('rect', { x: c * CELL + 1, y: r * CELL + 1, width: CELL - 2, height: CELL - 2,
        class: `${shade(name, x, largest)}${here ? ' worst' : ''}` }, el('title', {}, `[${r}, ${c}] ${exact(x)}`)));
      const mark = symbol(name, x);
      if (mark) cells.push(el('text', { x: c * CELL + CELL / 2, y: r * CELL + 13, class: 'mark' }, mark));
    }
  }
  const width = array.columns * CELL, height = array.rows * CELL;
  const label = `${MAPS[name]}, ${array.rows} by ${array.columns}, largest magnitude ${shown(largest)}`;
  return el('figure', { class: 'map' }, el('figcaption', {}, MAPS[name], el('small', {}, ` up to ${shown(largest)}`)),
    el('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label }, cells),
    el('details', { class: 'in' }, el('summary', {}, 'numbers'), numbers(name, array)));
}

// Colour is not the only sign: what is above the bound, or no number, has a mark too.
function symbol(name, x) {
  if (Number.isNaN(x)) return 'N';
  if (!Number.isFinite(x)) return '∞';
  return name === 'ρ' && x > 1 ? '✗' : '';
}

function shade(name, x, largest) {
  if (!Number.isFinite(x)) return 'odd';
  if (name === 'ρ') return x <= 0.1 ? 'h0' : x <= 0.5 ? 'h2' : x <= 1 ? 'h3' : x <= 100 ? 'h4' : 'h5';
  const part = largest ? Math.abs(x) / largest : 0, level = Math.ceil(part * 4);
  return level === 0 ? 'v0' : `${x < 0 ? 'n' : 'p'}${level}`;
}

function numbers(name, array) {
  const lines = [];
  for (let r = 0; r < array.rows; r++) {
    const values = [...array.values.subarray(r * array.columns, (r + 1) * array.columns)];
    lines.push(el('tr', {}, values.map(x => el('td', {}, exact(x)))));
  }
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `${MAPS[name]}, numbers` }, el('table', {}, el('tbody', {}, lines)));
}
