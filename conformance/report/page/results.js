// The list of results: rows kept of what the filter and the query leave, sorted, a hundred at a time.

const PAGE = 100;
const COLUMNS = {
  implementation: { label: 'implementation', of: one => one.kind.implementation },
  output: { label: 'output', of: one => one.kind.output },
  case: { label: 'case', of: one => one.case },
  step: { label: 'step', of: one => one.step },
  dtype: { label: 'dtype', of: one => one.kind.dtype },
  verdict: { label: 'verdict', of: one => one.kind.verdict },
  standing: { label: 'standing', of: one => one.kind.standing },
  rho: { label: 'ρ', of: one => Number.isNaN(one.rho) ? -1 : one.rho },
};
let visible = [], length = PAGE, chosenRow = -1;

// Return the rows in the filter, in order: what next and previous go through.
function filtered() {
  const wanted = query(state.q), kept = run.kinds.map(kind => passes(kind, state.filters)), found = [];
  for (let i = 0; i < rows(); i++) {
    if (!kept[run.columns['row.kind'].data[i]]) continue;
    const one = row(i);
    if (wanted.holds(one)) found.push(one);
  }
  return sorted(found, state.sort || '-rho');
}

function sorted(found, by) {
  const down = by.startsWith('-'), read = COLUMNS[by.replace(/^-/, '')]?.of ?? COLUMNS.rho.of;
  const keyed = found.map(one => [read(one), one]);
  keyed.sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1) || x.index - y.index);
  return keyed.map(([, one]) => one);
}

function showResults() {
  visible = filtered();
  length = PAGE;
  chosenRow = -1;
  fill();
}

function fill() {
  const all = total(run.kinds.filter(kind => passes(kind, state.filters)));
  const number = visible.length.toLocaleString('en'), found = `${said(all)} ${all.number === 1 ? 'result' : 'results'}${state.q ? ' that answer the query' : ''}`;
  document.getElementById('results-said').textContent = visible.length === all.number && !all.least
    ? `${found}.` : `${found}; the ${number} of them kept in this file are listed, the worst of each kind.`;
  document.getElementById('results-table').replaceChildren(head(), el('tbody', {}, visible.slice(0, length).map(line)));
  document.getElementById('more').hidden = visible.length <= length;
}

function head() {
  const cells = Object.entries(COLUMNS).map(([name, column]) => {
    const by = state.sort || '-rho', down = by === `-${name}`, up = by === name;
    const button = el('button', { type: 'button', class: 'sort', onclick: () => go({ sort: down ? name : `-${name}` }) },
      column.label, down ? ' ▼' : up ? ' ▲' : '');
    return el('th', { scope: 'col', class: 'text', 'aria-sort': down ? 'descending' : up ? 'ascending' : 'none' }, button);
  });
  return el('thead', {}, el('tr', {}, cells, el('th', { scope: 'col', class: 'text' }, 'why')));
}

function line(one, n) {
  const link = el('a', { href: caseAddress(one), 'data-row': n }, el('code', {}, one.case));
  return el('tr', {},
    el('td', { class: 'text' }, one.kind.implementation),
    el('td', { class: 'text' }, one.kind.output),
    el('th', { scope: 'row' }, link),
    el('td', {}, one.step < 0 ? '' : String(one.step)),
    el('td', { class: 'text' }, one.kind.dtype),
    el('td', { class: `text ${look(one.kind)}` }, `${sign(one.kind)} ${one.kind.verdict}`),
    el('td', { class: 'text' }, [one.kind.standing, one.kind.change].filter(Boolean).join(', ')),
    el('td', { class: one.rho > 1 ? 'bad' : '' }, shown(one.rho)),
    el('td', { class: 'text wrap' }, why(one)));
}

function why(one) {
  if (!one.how) return one.said;
  const number = one.kind.verdict === 'PASS' ? shown : exact;
  const where = one.at ? `at [${one.at}] ` : '';
  return `${where}expected ${number(one.expected)}, got ${number(one.got)}; allowed error ${shown(one.bound)}${one.ulps ? `, ${shown(one.ulps)} ${one.ulps === 1 ? 'ulp' : 'ulps'} off` : ''} (${one.how}, ${one.numerics})`;
}

function caseAddress(one) {
  const at = { implementation: one.kind.implementation, step: one.step, output: one.kind.output };
  return address({ ...state, case: one.case, at });
}

function choose(move) {
  if (!visible.length) return;
  chosenRow = Math.min(Math.max(chosenRow + move, 0), visible.length - 1);
  if (chosenRow >= length) { length += PAGE; fill(); }
  document.querySelector(`#results-table a[data-row="${chosenRow}"]`)?.focus();
}
