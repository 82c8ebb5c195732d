// Two implementations side by side: what they promise where it differs, with its size, and what each departs in.

const PAIR = ['torch.nn.BatchNorm2d@cpu', 'keras.BatchNormalization+tensorflow@cpu'];

// Return who is compared, and at which N: what the address says, or two that are often asked about.
function pair() {
  const names = Object.keys(run.porting.values), known = one => names.includes(one);
  const [a, b] = PAIR.every(known) ? PAIR : [names[0], names[1] ?? names[0]], sizes = run.porting.sizes;
  const { a: first = '', b: second = '', n = '' } = state.own;
  return { a: known(first) ? first : a, b: known(second) ? second : b, n: sizes.includes(Number(n)) ? Number(n) : 32 };
}

function showCompare() {
  const body = document.getElementById('compare-body');
  if (!Object.keys(run.porting.values).length) {
    body.replaceChildren(el('p', {}, 'No implementation of this run has a statement.'));
    return;
  }
  const of = pair(), form = document.getElementById('compare-form');
  for (const [name, one] of Object.entries(of)) form.elements[name].value = one;
  body.replaceChildren(...told(of));
}

function told({ a, b, n }) {
  const fields = run.porting.columns.map((name, i) => [name, run.porting.values[a][i], run.porting.values[b][i]]);
  const applies = one => !one[2] && one[0] !== '–';
  const both = fields.filter(([, x, y]) => applies(x) && applies(y)), differs = both.filter(([, x, y]) => apart(x, y));
  const alone = fields.filter(([, x, y]) => applies(x) !== applies(y));
  const same = both.filter(([, x, y]) => !apart(x, y)), neither = fields.length - both.length - alone.length;
  const sized = differs.map(([name, x, y]) => ({ name, x, y, ...worth(name, x, y, n) })).sort((p, q) => q.most - p.most);
  return [
    el('p', { role: 'status' }, el('strong', {}, count(differs.length, 'difference', 'differences')),
      `, ${same.length} the same, ${alone.length} for one of them alone, ${neither} for neither.`),
    table(['what', a, b, `worth at N = ${n.toLocaleString('en')}`], sized.map(one => [words(one.name), side(one.x), side(one.y), one.said])),
    alone.length ? folded(`For one of them alone (${alone.length})`, table(['what', a, b], alone.map(([name, x, y]) => [words(name), side(x), side(y)]))) : null,
    same.length ? folded(`The same in both (${same.length})`, table(['what', 'both'], same.map(([name, x]) => [words(name), side(x)]))) : null,
    el('h3', {}, 'What each does not keep of its promises'), departing(a), departing(b), ...ported(a, b, n),
  ].filter(Boolean);
}

function apart(x, y) {
  return (x[3] || x[0]) !== (y[3] || y[0]) || x[1] !== y[1];
}

function words(name) {
  return name.replaceAll('_', ' ');
}

function side([said, elsewhere, why]) {
  return why ? `· ${why}` : elsewhere ? `${said}; ${elsewhere}` : said;
}

// What a difference is worth: the outputs that it changes, the most first; or where it shows.
function worth(name, x, y, n) {
  const [p, q] = [x[3] || x[0], y[3] || y[0]], place = run.porting.sizes.indexOf(n);
  const found = run.porting.effects.find(([field, one, other]) => field === name && (one === p && other === q || one === q && other === p));
  if (!found) {
    const where = run.porting.elsewhere[name];
    const said = name === 'momentum is' ? 'spelling alone: 0.1 of one is 0.9 of the other' : where ? `shows where ${where}` : p === q ? 'shows where they say' : '';
    return { most: -1, said };
  }
  const sizes = Object.entries(found[3]).map(([output, all]) => [output, all[place]]).filter(([, size]) => size !== null);
  sizes.sort(([, s], [, t]) => t - s);
  const said = sizes.slice(0, 3).map(([output, size]) => `${output.replace('_', ' ')} ${percent(size)}`).join(', ');
  return { most: sizes.length ? sizes[0][1] : 0, said: said || 'less than rounding' };
}

function percent(size) {
  return size >= 10 ? `× ${shown(size)}` : `${Number((100 * size).toPrecision(2))} %`;
}

// The known divergences of one, counted over the run, and what nothing explains.
function departing(id) {
  const counts = new Map();
  for (const kind of run.kinds) {
    if (kind.implementation !== id || !kind.standing) continue;
    for (const name of kind.standing === 'explained' ? kind.divergence.split(', ') : ['']) counts.set(name, (counts.get(name) ?? 0) + kind.number);
  }
  const items = [...counts].sort((x, y) => y[1] - x[1]).map(([name, number]) => el('li', {},
    el('a', { href: address({ ...state, page: 'failures', own: {}, filters: { implementation: [id], ...(name ? { divergence: [name] } : {}) } }) }, count(number, 'failure', 'failures')),
    name ? `: ${run.reasons[name] ?? name}` : ' that nothing explains'));
  return items.length ? el('div', {}, el('p', {}, el('code', {}, id)), el('ul', {}, items)) : el('p', {}, el('code', {}, id), ' keeps all it promises in this run.');
}

function ported(a, b, n) {
  if (a === b || ![a, b].every(id => run.byId.get(id)?.translate)) return [];
  return [el('h3', {}, 'Move the weights'), command('The arguments and weights of one in the words of the other, and the proof: ', `bnconf translate --from ${a} --to ${b} --n ${n}`)];
}

function folded(title, content) {
  return el('details', {}, el('summary', {}, title), content);
}

function table(head, lines) {
  const cell = (text, i) => i ? el('td', { class: 'text wrap', 'data-head': head[i] }, text) : el('th', { scope: 'row', class: 'text' }, text);
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': head.join(', ') }, el('table', { class: 'compared labelled' },
    el('thead', {}, el('tr', {}, head.map(name => el('th', { scope: 'col', class: 'text' }, name)))),
    el('tbody', {}, lines.map(line => el('tr', {}, line.map(cell))))));
}

function changedPair() {
  const form = document.getElementById('compare-form');
  go({ page: 'compare', own: Object.fromEntries(['a', 'b', 'n'].map(name => [name, form.elements[name].value])) }, true);
}

function swapped() {
  const { a, b, n } = pair();
  go({ page: 'compare', own: { a: b, b: a, n: String(n) } }, true);
}
