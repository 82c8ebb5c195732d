// Small heat maps: a shade for each element, its number on pointing, and all numbers as a table.

const CELL = 18;

// What the shades mean.
function colours() {
  const patch = css => el('svg', { class: 'patch', viewBox: '0 0 10 10', 'aria-hidden': 'true' }, el('rect', { width: 10, height: 10, class: css }));
  return el('p', { class: 'soft' }, 'Shades: ', ['n4', 'n2'].map(patch), ' below 0, ', ['p2', 'p4'].map(patch), ' above it, the darker the larger; ρ: ',
    patch('h0'), ' to 0.1, ', patch('h2'), ' to 0.5, ', patch('h3'), ' to 1, ', patch('h4'), ' to 100, ', patch('h5'), ' more; ✗ above 1, N no number.');
}

// What an array is shown around: 0, or its mean where all of it lies so close to that, that shades would be alike.
function middle(name, array) {
  const finite = [...array.values].filter(Number.isFinite), mean = finite.reduce((sum, x) => sum + x, 0) / finite.length;
  const far = Math.max(...finite.map(Math.abs)), spread = Math.max(...finite.map(x => Math.abs(x - mean)));
  return name !== 'ρ' && name !== 'bound' && finite.length > 1 && spread > 0 && far > 20 * spread ? mean : 0;
}

function heatMap(name, array, worst) {
  const around = middle(name, array);
  const largest = Math.max(0, ...[...array.values].filter(Number.isFinite).map(x => Math.abs(x - around)));
  const cells = [];
  for (let r = 0; r < array.rows; r++) {
    for (let c = 0; c < array.columns; c++) {
      const x = array.values[r * array.columns + c], here = name !== 'x' && r === worst[0] && c === worst[1];
      cells.push(el('rect', { x: c * CELL + 1, y: r * CELL + 1, width: CELL - 2, height: CELL - 2,
        class: `${shade(name, x - around, largest)}${here ? ' worst' : ''}` }, el('title', {}, `[${r}, ${c}] ${exact(x)}`)));
      const mark = symbol(name, x);
      if (mark) cells.push(el('text', { x: c * CELL + CELL / 2, y: r * CELL + 13, class: 'mark' }, mark));
    }
  }
  const width = array.columns * CELL, height = array.rows * CELL;
  const label = `${MAPS[name]}, ${array.rows} by ${array.columns}, ${around ? `around ${exact(around)}, ` : ''}largest magnitude ${shown(largest)}`;
  return el('figure', { class: 'map' }, el('figcaption', {}, MAPS[name], el('small', {}, around ? ` ${exact(around)} ± ${shown(largest)}` : ` up to ${shown(largest)}`)),
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
