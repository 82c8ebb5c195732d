// Counters that are filters: exact counts of results per field, over what the other fields leave.

const LIST = 14; // a field with more values than this is folded

function passes(kind, filters, but = '') {
  return FIELDS.every(field => field === but || !filters[field] || filters[field].some(one => holds(kind, field, one)));
}

function holds(kind, field, one) {
  return field === 'divergence' ? kind.divergence.split(', ').includes(one) : kind[field] === one;
}

// How many results of a kind the query leaves: of a kind that is not kept whole perhaps only at least so many.
let answered = { q: null, numbers: new Map() };

function numberOf(kind) {
  if (answered.q !== state.q) answered = { q: state.q, wanted: query(state.q), numbers: new Map() };
  if (!answered.numbers.has(kind)) answered.numbers.set(kind, answering(kind, answered.wanted));
  return answered.numbers.get(kind);
}

function answering(kind, wanted) {
  const known = wanted.ofKind(kind), [from, to] = kind.rows;
  if (known !== undefined) return { number: known ? kind.number : 0, least: false };
  let number = 0;
  for (let i = from; i < to; i++) number += wanted.holds(row(i));
  return { number, least: to - from < kind.number };
}

function total(kinds) {
  const found = kinds.map(numberOf);
  return { number: found.reduce((sum, one) => sum + one.number, 0), least: found.some(one => one.least) };
}

function said({ number, least }) {
  return `${least ? '≥ ' : ''}${number.toLocaleString('en')}`;
}

function counted(field, kinds, filters) {
  const members = new Map();
  for (const kind of kinds) {
    const inside = passes(kind, filters, field);
    for (const one of field === 'divergence' ? kind.divergence.split(', ') : [kind[field]]) {
      if (one && !members.has(one)) members.set(one, []);
      if (one && inside) members.get(one).push(kind);
    }
  }
  for (const one of filters[field] ?? []) if (!members.has(one)) members.set(one, []);
  const counts = [...members].map(([one, of]) => [one, total(of)]);
  return counts.sort((a, b) => b[1].number - a[1].number || (a[0] < b[0] ? -1 : 1));
}

function relevant(page) {
  return page === 'failures' ? run.kinds.filter(kind => kind.standing || kind.change) : run.kinds;
}

function showFilters() {
  const box = document.getElementById('filters'), wanted = ['failures', 'results'].includes(state.page);
  box.hidden = !wanted;
  if (!wanted) return;
  const open = new Set([...box.querySelectorAll('details[open]')].map(one => one.dataset.field));
  const focused = document.activeElement?.dataset?.value;
  const facets = FIELDS.map(field => facet(field, relevant(state.page), open)).filter(Boolean);
  document.getElementById('facets').replaceChildren(...facets);
  const input = document.getElementById('query');
  if (input.value !== state.q) input.value = state.q;
  document.getElementById('query-said').textContent = query(state.q).wrong;
  if (focused) [...box.querySelectorAll('button')].find(b => b.dataset.value === focused)?.focus();
}

function facet(field, kinds, open) {
  const counts = counted(field, kinds, state.filters), chosen = state.filters[field] ?? [];
  if (counts.length < 2 && !chosen.length) return null;
  const buttons = counts.map(([one, number]) => el('button', {
    type: 'button', class: 'facet', 'aria-pressed': String(chosen.includes(one)), 'data-field': field,
    'data-value': `${field}=${one}`, disabled: number.number === 0 && !number.least && !chosen.includes(one),
    onclick: () => go({ filters: toggled(field, one) }),
  }, one, ' ', el('b', {}, said(number))));
  if (counts.length <= LIST) {
    return el('div', { class: 'facets', role: 'group', 'aria-label': field }, el('span', { class: 'field' }, field), buttons);
  }
  const which = chosen.length ? `: ${chosen.join(', ')}` : ` (${counts.filter(([, n]) => n.number).length})`;
  return el('details', { class: 'facets', 'data-field': field, open: open.has(field) },
    el('summary', {}, el('span', { class: 'field' }, field), which), el('div', { class: 'many' }, buttons));
}

// --- the failures page: groups that the server wrote, hidden where they do not match ------------------------------

function showFailures() {
  const groups = [...document.querySelectorAll('#failures .group')], wanted = query(state.q);
  let visible = 0;
  for (const group of groups) {
    const left = total((group.kinds ??= kindsOf(run.groups.get(group.id))).filter(kind => passes(kind, state.filters)));
    const whole = group.kinds.reduce((sum, kind) => sum + kind.number, 0), partly = left.number < whole;
    group.hidden = !left.number;
    visible += !group.hidden;
    group.querySelector('.partly').textContent = partly ? ` (${said(left)} of them here)` : '';
    for (const link of group.querySelectorAll('a[data-step]')) link.closest('tr, .worst-of').hidden = partly && !shownHere(group, link, wanted);
  }
  const all = total(relevant('failures').filter(kind => passes(kind, state.filters))), told = document.getElementById('failures-said');
  if (told) told.textContent = `${visible} of ${count(groups.length, 'group', 'groups')}; ${said(all)} ${all.number === 1 ? 'failure' : 'failures'} in the filter.`;
}

// What is said of every group is written by the script: why what is known fails, what is known, and the way to all of a group.
function giveReasons() {
  for (const one of document.querySelectorAll('#failures .known')) one.append(`: ${run.reasons[one.textContent] ?? ''}`);
  for (const group of document.querySelectorAll('#failures .group')) {
    const { divergence, standing } = run.groups.get(group.id);
    group.firstElementChild.append(el('span', { class: 'partly' }), standing === 'explained' ? el('small', {}, ` ${divergence}`) : '');
    group.querySelector('.more')?.append(' ', el('a', { href: '#results', 'data-all': true }, 'All of them'));
  }
}

function kindsOf(group) {
  return run.kinds.filter(kind => kind.implementation === group.implementation && kind.output === group.output &&
    kind.standing === group.standing && kind.change === group.change && kind.divergence === group.divergence);
}

// Whether a listed failure is one of those that filter and query leave.
function shownHere(group, link, wanted) {
  const { step } = link.dataset, id = link.textContent;
  return group.kinds.filter(kind => passes(kind, state.filters)).some(kind => {
    for (let i = kind.rows[0]; i < kind.rows[1]; i++) {
      if (value('row.case', i) === id && String(value('row.step', i)) === step && wanted.holds(row(i))) return true;
    }
    return false;
  });
}
