// Counters that are filters: exact counts of results per field, over what the other fields leave.

const LIST = 14; // a field with more values than this is folded

function passes(kind, filters, but = '') {
  return FIELDS.every(field => field === but || !filters[field] || filters[field].some(one => holds(kind, field, one)));
}

function holds(kind, field, one) {
  return field === 'divergence' ? kind.divergence.split(', ').includes(one) : kind[field] === one;
}

function counted(field, kinds, filters) {
  const counts = new Map();
  for (const kind of kinds) {
    const inside = passes(kind, filters, field) ? kind.number : 0;
    for (const one of field === 'divergence' ? kind.divergence.split(', ') : [kind[field]]) {
      if (one) counts.set(one, (counts.get(one) ?? 0) + inside);
    }
  }
  for (const one of filters[field] ?? []) if (!counts.has(one)) counts.set(one, 0);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
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
    'data-value': `${field}=${one}`, disabled: number === 0 && !chosen.includes(one),
    onclick: () => go({ filters: toggled(field, one) }),
  }, one, ' ', el('b', {}, number.toLocaleString('en'))));
  if (counts.length <= LIST) {
    return el('div', { class: 'facets', role: 'group', 'aria-label': field }, el('span', { class: 'field' }, field), buttons);
  }
  const said = chosen.length ? `: ${chosen.join(', ')}` : ` (${counts.filter(([, n]) => n).length})`;
  return el('details', { class: 'facets', 'data-field': field, open: open.has(field) },
    el('summary', {}, el('span', { class: 'field' }, field), said), el('div', { class: 'many' }, buttons));
}

// --- the failures page: groups that the server wrote, hidden where they do not match ------------------------------

function showFailures() {
  const groups = document.querySelectorAll('#failures .group');
  const wanted = query(state.q);
  let visible = 0, number = 0;
  for (const group of groups) {
    group.kind = run.groups.get(group.id);
    group.hidden = !(FIELDS.every(field => grouped(group.kind, field)) && answers(group, wanted));
    visible += !group.hidden;
  }
  for (const kind of relevant('failures')) if (passes(kind, state.filters)) number += kind.number;
  const said = document.getElementById('failures-said');
  if (said) said.textContent = `${visible} of ${groups.length} groups; ${number.toLocaleString('en')} failures in the filter.`;
}

function grouped(kind, field) {
  const chosen = state.filters[field];
  if (!chosen) return true;
  const framework = run.byId.get(kind.implementation)?.framework;
  const has = field === 'framework' ? [framework] : field === 'divergence' ? kind.divergence.split(', ') : [kind[field]].flat();
  return chosen.some(one => has.includes(one));
}

// A group answers a query when one of the results kept of it does.
function answers(group, wanted) {
  if (wanted.empty) return true;
  group.members ??= members(group.kind);
  return group.members.some(wanted.holds);
}

function members(kind) {
  const found = [];
  for (let i = 0; i < rows(); i++) {
    const of = run.kinds[run.columns['row.kind'].data[i]];
    if (of.implementation === kind.implementation && of.output === kind.output && of.standing === kind.standing &&
        of.change === kind.change) found.push(row(i));
  }
  return found;
}
