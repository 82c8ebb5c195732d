// Who is accurate where: the ranking by dtype and check, tables that sort, numbers that lead to their results.

const QUANTILES = 4, SHOWN = [0, 2, 3], STRIP = 140, AXES = { ulps: [-2, 5], rho: [-3, 1] }, NINETY_NINE = 5; // as ranking.py and the table have them
let overall = null; // the rows over all arrays, as the page was written with

function showAccuracy() {
  overall ??= prepared();
  const form = document.getElementById('ranking-form'), { in: dtype = '', of: check = '', by = '' } = state.own;
  form.elements.in.value = dtype;
  form.elements.of.value = check;
  const rows = dtype || check ? ranking(dtype, check) : overall;
  document.querySelector('#ranking tbody').replaceChildren(...rows);
  document.getElementById('ranking-said').textContent = count(rows.length, 'implementation has such arrays', 'implementations have such arrays');
  for (const table of document.querySelectorAll('#accuracy .sortable')) order(table, by);
}

// Make the tables sort and lead on, and return the rows of the ranking.
function prepared() {
  for (const table of document.querySelectorAll('#accuracy .sortable')) heads(table);
  for (const row of document.querySelectorAll('#heat tbody tr')) lead(row);
  return [...document.querySelectorAll('#ranking tbody tr')];
}

// The most accurate first.
function ranking(dtype, check) {
  const rows = [];
  for (let i = 0; i < run.columns['ranked.who'].data.length; i++) {
    if (value('ranked.dtype', i) === dtype && value('ranked.check', i) === check) rows.push(ranked(i));
  }
  const ninetyNine = row => key(row.cells[NINETY_NINE], Infinity);
  return rows.sort((x, y) => ninetyNine(x) - ninetyNine(y) || 0);
}

function ranked(i) {
  const name = value('ranked.who', i), apart = value('ranked.apart', i), id = `error-${name}`;
  const measure = which => {
    const said = Array.from({ length: QUANTILES }, (_, n) => value(`ranked.${which}`, i * QUANTILES + n));
    return [el('td', {}, strip(which, said)), ...SHOWN.map(n => el('td', {}, said[n]))];
  };
  return el('tr', {}, el('th', { scope: 'row' }, document.getElementById(id) ? el('a', { href: `#${id}` }, name) : name),
    el('td', {}, value('ranked.arrays', i).toLocaleString('en')), el('td', { class: apart ? 'warn' : null }, apart ? apart.toLocaleString('en') : ''),
    measure('ulps'), measure('rho'));
}

function strip(which, said) {
  const [low, high] = AXES[which];
  const place = text => {
    const x = text === '∞' ? Infinity : Number(text), log = x === 0 ? low : Math.log10(x);
    return Math.round((Math.min(Math.max(log, low), high) - low) / (high - low) * (STRIP - 2)) + 1;
  };
  if (said[0] === '–') return '';
  const [median, ninety, most, largest] = said.map(place);
  return el('svg', { class: `strip ${which}`, viewBox: `0 0 ${STRIP} 12`, 'aria-hidden': 'true' }, el('path', { d: `M${median},6H${largest}M${ninety},3V9M${most},1V11` }));
}

function lead(row) {
  const outputs = [...document.querySelectorAll('#heat thead th')].map(head => head.dataset.output), implementation = [row.cells[0].textContent];
  for (const cell of [...row.cells].slice(1)) {
    if (!cell.textContent) continue;
    const href = address({ page: 'results', filters: { implementation, output: [outputs[cell.cellIndex]] } });
    cell.replaceChildren(el('a', { href }, cell.textContent));
  }
}

// --- tables that sort ----------------------------------------------------------------------------------------------

function heads(table) {
  for (const head of [...table.tHead.rows].at(-1).querySelectorAll('th')) {
    const column = `${[...document.querySelectorAll('#accuracy .sortable')].indexOf(table)}.${head.cellIndex}`;
    head.replaceChildren(el('button', { type: 'button', class: 'sort', onclick: () => {
      const down = state.own.by === column ? `-${column}` : column;
      go({ page: 'accuracy', own: { ...state.own, by: down } }, true);
    } }, head.textContent, el('span', {}, '')));
  }
}

function order(table, by) {
  const at = [...document.querySelectorAll('#accuracy .sortable')].indexOf(table), down = by.startsWith('-'), [which, column] = by.replace('-', '').split('.');
  const mine = by !== '' && Number(which) === at;
  for (const head of [...table.tHead.rows].at(-1).querySelectorAll('th')) {
    const here = mine && head.cellIndex === Number(column);
    head.setAttribute('aria-sort', here ? down ? 'descending' : 'ascending' : 'none');
    head.querySelector('.sort span').textContent = here ? down ? ' ▼' : ' ▲' : '';
  }
  if (!mine) return;
  const last = down ? -Infinity : Infinity, body = table.tBodies[0], read = row => key(row.cells[column], last);
  const rows = [...body.rows].map((row, n) => [read(row), n, row]);
  rows.sort(([x, m], [y, n]) => (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1) || m - n);
  body.replaceChildren(...rows.map(([, , row]) => row));
}

// What a cell is sorted by: its number, or its words; what is empty comes last.
function key(cell, last) {
  const text = cell.textContent.replace(/▲\d+|[,%✗]/g, '').trim();
  if (text === '' || text === '–') return last;
  const number = Number(text.replace('∞', 'Infinity'));
  return Number.isNaN(number) ? text : number;
}

function chosenRanking() {
  const form = document.getElementById('ranking-form');
  go({ page: 'accuracy', own: { ...state.own, in: form.elements.in.value, of: form.elements.of.value } }, true);
}
