// One case: what was asked, step by step, what one implementation made of it, and how all others fared.

const MAPS = { x: 'input x', expected: 'expected', got: 'got', error: 'error', bound: 'allowed error', 'ρ': 'ρ = error / allowed' };

// The id of a case that is named by its id or, of the corpus, by its name.
function idOf(name) {
  return run.byCase.has(name) ? name : run.cases.find(one => one.name && one.name === name)?.id ?? name;
}

function showCase() {
  state.case = idOf(state.case);
  const about = run.byCase.get(state.case), body = document.getElementById('case-body');
  const list = filtered(), at = state.at;
  const mine = everyRow(one => one.case === state.case);
  const matching = mine.filter(one => (!at.implementation || one.kind.implementation === at.implementation) &&
    (!at.output || one.kind.output === at.output) && (at.step === undefined || String(one.step) === at.step));
  const one = sorted(matching, '-rho')[0];
  document.getElementById('case-h').textContent = `Case ${about?.name || state.case}`;
  if (!about && !one) {
    body.replaceChildren(el('p', {}, `No case ${state.case} is in this run.`));
    return;
  }
  body.replaceChildren(...[steps(list, one), asked(about), one && judged(one), about && replay(about, one ?? at), one && shared(about, one),
    timeline(about, mine, one ?? at), one && maps(one), about && others(about)].filter(Boolean));
}

function everyRow(wanted) {
  const found = [];
  for (let i = 0; i < rows(); i++) {
    if (value('row.case', i) !== state.case) continue;
    const one = row(i);
    if (wanted(one)) found.push(one);
  }
  return found;
}

// Previous and next within the filter.
function steps(list, one) {
  const place = one ? list.findIndex(other => other.index === one.index) : -1;
  const link = (to, text, key) => to
    ? el('a', { href: caseAddress(to), rel: key, 'data-key': key }, text) : el('span', { class: 'soft' }, text);
  const back = el('a', { href: address({ ...state, case: '', page: 'results' }), 'data-key': 'up' }, '↑ results');
  const said = place < 0 ? 'not in the filter' : `${(place + 1).toLocaleString('en')} of ${list.length.toLocaleString('en')} in the filter`;
  return el('p', { class: 'steps' }, back, link(list[place - 1], '← previous', 'prev'), el('span', {}, said),
    link(place < 0 ? list[0] : list[place + 1], 'next →', 'next'));
}

function asked(about) {
  if (!about) return null;
  const recipe = Object.entries(about.recipe).map(([name, given]) => `${name}: ${typeof given === 'object' ? JSON.stringify(given) : given}`);
  return el('div', {}, el('p', {}, about.summary), el('dl', {},
    el('dt', {}, 'case'), el('dd', {}, el('code', {}, about.id)),
    el('dt', {}, 'cell'), el('dd', {}, about.cell),
    el('dt', {}, '|mean| / deviation'), el('dd', {}, about.kappa === null ? 'a channel is constant' : shown(about.kappa)),
    recipe.length ? [el('dt', {}, 'recipe'), el('dd', { class: 'soft' }, recipe.join(', '))] : []));
}

function judged(one) {
  const where = one.step < 0 ? '' : `, step ${one.step}`;
  const standing = one.kind.standing ? `, ${one.kind.standing}` : '';
  return el('div', { class: `verdict ${look(one.kind)}` },
    el('p', {}, el('strong', {}, `${sign(one.kind)} ${one.kind.implementation} ${one.kind.output}${where}: ${one.kind.verdict}${standing}`),
      Number.isNaN(one.rho) ? '' : `, ρ = ${shown(one.rho)}`),
    el('p', {}, why(one)),
    one.kind.divergence.split(', ').filter(Boolean).map(id => el('p', {}, `${id}: ${run.reasons[id] ?? ''}`)));
}

function replay(about, one) {
  const id = one.kind?.implementation ?? one.implementation ?? '';
  return command('Ask again, from where this page was written: ', again(about, id));
}

function timeline(about, mine, at) {
  const id = at.kind?.implementation ?? at.implementation, theirs = mine.filter(one => one.kind.implementation === id);
  const items = (about?.steps ?? []).map((said, t) => {
    const here = theirs.filter(one => one.step === t);
    const links = here.map(one => el('a', { href: caseAddress(one), class: look(one.kind), 'aria-current': one.index === at.index ? 'true' : null },
      `${sign(one.kind)} ${one.kind.output} ${shown(one.rho)}`));
    return el('li', {}, el('strong', {}, `step ${t}`), ` ${said}`, el('br'), links.flatMap(link => [link, ' ']));
  });
  return items.length ? el('div', {}, el('h3', {}, 'Steps'), el('p', {}, passing(about, id, theirs)), el('ol', { class: 'timeline', start: 0 }, items)) : null;
}

// How many outputs pass of all that the case asked of one; this file lists those that fail, and the worst of the others.
function passing(about, id, theirs) {
  const here = run.byId.get(id);
  if (!here) return '';
  const number = run.columns.passed.data[about.index * run.implementations.length + here.index];
  const failing = theirs.filter(one => one.kind.verdict === 'FAIL' || one.kind.verdict === 'ERROR').length;
  return `Of ${id} in all steps: ${count(number, 'result passes', 'results pass')}, ${failing ? count(failing, 'fails', 'fail') : 'none fails'}; listed are all that fail, and the worst of those that pass.`;
}

function maps(one) {
  const sample = run.samples.find(s => s.case === one.case && s.implementation === one.kind.implementation &&
    s.step === one.step && one.kind.output.split(' ')[0] === s.output);
  if (!sample) {
    return el('p', { class: 'soft' }, 'Arrays are kept of chosen failures only; the command above shows this one again.');
  }
  const [rows, columns] = sample.size, [row, column] = sample.start, any = Object.values(sample.arrays)[1];
  const said = `Rows ${row} to ${row + any.rows - 1} of ${rows}, channels ${column} to ${column + any.columns - 1} of ${columns}, around the worst element, which is marked; ${sample.dtype}, ${sample.check} check.`;
  return el('div', {}, el('h3', {}, 'Around the worst element'), el('p', {}, said),
    colours(), el('div', { class: 'maps' }, Object.entries(sample.arrays).map(([name, array]) => heatMap(name, array, sample.worst))));
}

function others(about) {
  const grid = run.columns.grid.data, width = run.implementations.length, standings = new Map();
  for (const one of everyRow(row => row.kind.standing)) {
    const id = one.kind.implementation, before = standings.get(id);
    standings.set(id, before && before !== 'explained' ? before : one.kind.standing);
  }
  const fared = run.implementations.map((one, n) => [grid[about.index * width + n], one.id]).filter(([code]) => code > 0);
  fared.sort(([a], [b]) => b - a);
  const line = ([code, id]) => el('tr', {},
    el('th', { scope: 'row' }, el('a', { href: address({ ...state, case: about.id, at: { implementation: id } }) }, id)),
    el('td', { class: `text ${code > ONE ? standings.get(id) === 'explained' ? 'warn' : 'bad' : code > 2 ? 'good' : 'soft'}` }, coded(code, standings.get(id))));
  return el('details', { open: true }, el('summary', {}, `How all ${fared.length} implementations fared in this case`),
    el('div', { class: 'scroll tall', tabindex: 0, role: 'region', 'aria-label': 'All implementations in this case' },
      el('table', {}, el('thead', {}, el('tr', {}, el('th', { scope: 'col', class: 'text' }, 'implementation'),
        el('th', { scope: 'col', class: 'text' }, 'worst ρ'))), el('tbody', {}, fared.map(line)))));
}

function coded(code, standing) {
  const bad = standing === 'explained' ? '▲' : '✗';
  if (code < 4) return ['', '– unsupported', '– inconclusive', '✓ conforms'][code];
  if (code === 255) return `${bad} fails`;
  return `${code > ONE ? bad : '✓'} ρ ≈ ${shown(Number((10 ** ((code - ONE) / PER_DECADE)).toPrecision(2)))}`;
}
