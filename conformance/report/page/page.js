// The page: which part is shown, colours, keys. Everything is in the address, so back and forward need no code.

const THEMES = ['system', 'light', 'dark'];
const pages = [...document.querySelectorAll('nav a')].map(link => link.hash.slice(1));
const keys = {
  '/': () => { if (document.getElementById('filters').hidden) { aim = 'query'; go({ page: 'results' }); } else setTimeout(focusQuery); },
  '?': () => document.getElementById('help-dialog').showModal(),
  j: () => step(1),
  k: () => step(-1),
  u: () => follow('up'),
  c: () => go({ page: state.page === 'case' ? 'results' : state.page, filters: {}, q: '' }),
  t: () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? 'system') + 1) % THEMES.length]),
};

const narrow = matchMedia('(max-width: 40rem)');
const unfinished = { failures: giveReasons, semantics: giveNotes, coverage: giveNotes }; // what a page lacks until it is shown
let aim = ''; // where the focus goes on the next page, if not to its heading
const scrolls = new Map(); // how far down each address was, to come back to

function show(next, back = false) {
  const moved = next.page !== state.page || next.case !== state.case;
  state = next;
  for (const page of document.querySelectorAll('.page')) page.classList.toggle('here', page.id === state.page);
  for (const link of document.querySelectorAll('nav a')) {
    const here = link.hash === `#${state.page === 'case' ? 'results' : state.page}`;
    if (here) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
  }
  showFilters();
  unfinished[state.page]?.();
  delete unfinished[state.page];
  if (state.page === 'failures') showFailures();
  if (state.page === 'results') showResults();
  if (state.page === 'case') showCase();
  if (state.page === 'compare') showCompare();
  if (state.page === 'semantics') showColumns();
  if (state.page === 'accuracy') showAccuracy();
  if (narrow.matches) labelled(document.getElementById(state.page));
  const heading = document.getElementById(`${state.page}-h`), started = document.documentElement.dataset.ready;
  document.title = `${heading.textContent} – Batch normalization conformance`;
  const target = state.anchor ? document.getElementById(state.anchor) : null;
  if (target?.localName === 'details') target.open = true;
  const around = target?.parentElement.closest('details');
  if (around) around.open = true;
  if (target) target.hidden = false;
  if (back && scrolls.has(location.hash)) scrollTo(0, scrolls.get(location.hash));
  else if (target) target.scrollIntoView();
  else if (moved) scrollTo(0, 0);
  if (moved && started) aimed(target?.querySelector('summary') ?? heading);
}

// The focus follows to what is new, for those who do not point.
function aimed(at) {
  if (aim === 'query') focusQuery();
  else {
    at.tabIndex = at.localName === 'h2' ? -1 : 0;
    at.focus({ preventScroll: true });
  }
  aim = '';
}

// A click on a link of ours changes the state; as plain links they work without the script.
function clicked(event) {
  const link = event.target.closest?.('a[href^="#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const { set, all, check, step } = link.dataset;
  if (set !== undefined) {
    const page = link.getAttribute('href') === '#results' ? 'results' : 'failures';
    go({ page, filters: parsed(`#${page}?${encoded(set)}`).filters, q: link.closest('.group') ? state.q : '' });
    if (page === 'failures') setTimeout(() => opened(document.querySelector('#failures .group:not([hidden])')));
  } else if (all !== undefined) {
    const { implementation, output, standing, change } = run.groups.get(link.closest('.group').id);
    const filters = Object.entries({ implementation, output, standing, change }).filter(([, one]) => one).map(([name, one]) => [name, [one]]);
    go({ page: 'results', filters: Object.fromEntries(filters) });
  } else if (check !== undefined) {
    const implementation = [run.groups.get(link.hash.slice(1)).implementation];
    go({ page: 'failures', filters: { implementation, check: [check] }, q: '' });
    setTimeout(() => opened(document.getElementById(link.hash.slice(1))));
  } else if (step !== undefined) {
    const kind = run.groups.get(link.closest('.group').id);
    go({ case: link.textContent, at: { implementation: kind.implementation, step, output: kind.output } });
  } else if (link.classList.contains('skip')) {
    document.getElementById('main').focus();
  } else if (pages.includes(link.hash.slice(1))) {
    go({ page: link.hash.slice(1) });
  } else {
    move(link.getAttribute('href'));
  }
}

function encoded(set) {
  return set.split('&').map(pair => pair.split(/=(.*)/s).slice(0, 2).map(encodeURIComponent).join('=')).join('&');
}

function opened(group) {
  if (group) { group.open = true; group.scrollIntoView({ block: 'nearest' }); }
}

function pressed(event) {
  const typing = event.target.closest?.('input, textarea, select, dialog');
  if (event.key === 'Escape' && typing?.localName === 'input') typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = /^[1-9]$/.test(event.key) && pages[event.key - 1] ? () => go({ page: pages[event.key - 1] }) : keys[event.key];
  if (act) { event.preventDefault(); act(); }
}

function step(move) {
  if (state.page === 'case') follow(move > 0 ? 'next' : 'prev');
  else if (state.page === 'results') choose(move);
  else if (state.page === 'failures') summary(move);
}

function follow(key) {
  document.querySelector(`#case [data-key="${key}"]`)?.click();
}

function summary(move) {
  const all = [...document.querySelectorAll('#failures .group:not([hidden]) > summary')];
  const at = all.indexOf(document.activeElement);
  all[Math.min(Math.max(at + move, 0), all.length - 1)]?.focus();
}

function focusQuery() {
  document.getElementById('query').focus();
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  document.querySelector('#theme span').textContent = name;
  remember('theme', name);
}

// The columns of semantics: a group of them, or all, and on demand those alone in which implementations differ.
function showColumns() {
  const group = state.own.columns ?? '0', alike = document.getElementById('differing').checked ? same() : new Set();
  for (const button of document.querySelectorAll('#field-groups button')) button.setAttribute('aria-pressed', String(button.dataset.group === group));
  const heads = [...document.querySelectorAll('.promises thead th[data-field]')];
  const hidden = heads.map(head => alike.has(head.dataset.field) || (group !== 'all' && head.dataset.group !== group));
  for (const line of document.querySelectorAll('.promises tr:not(:first-child), .promises tbody tr')) {
    hidden.forEach((off, n) => { line.cells[n + 1].hidden = off; });
  }
  for (const over of document.querySelectorAll('.promises thead th[scope=colgroup]')) {
    const left = heads.filter((head, n) => head.dataset.group === over.dataset.group && !hidden[n]).length;
    over.hidden = !left;
    if (left) over.colSpan = left;
  }
}

// On a narrow screen a table is turned: each row a card, with the columns' names beside the cells.
function labelled(page) {
  for (const table of page.querySelectorAll('table.cards:not(.labelled), #ranking')) { // whose rows are others when others are ranked
    const names = columnNames(table);
    for (const row of table.tBodies[0]?.rows ?? []) {
      for (const cell of row.cells) if (cell.localName === 'td') cell.dataset.head = names[cell.cellIndex] ?? '';
    }
    table.classList.add('labelled');
  }
}

function columnNames(table) {
  const rows = [...table.tHead.rows], names = [...rows.at(-1).cells].map(cell => (cell.dataset.field ?? cell.textContent).replaceAll('_', ' '));
  if (table.id !== 'ranking') return names;
  const over = [...rows[0].cells].flatMap(cell => Array(cell.colSpan).fill(cell.textContent.split(',')[0]));
  return names.map((name, n) => `${over[n]}: ${name}`);
}

// What cells mean, where they are pointed at: once in the page, and not as often as it is meant.
function giveNotes() {
  const page = document.getElementById(state.page), notes = [...page.querySelectorAll('.notes li')];
  for (const cell of page.querySelectorAll('[data-note]')) cell.title = notes[cell.dataset.note - 1].textContent;
}

function same() {
  const heads = [...document.querySelectorAll('.promises thead th[data-field]')], lines = [...document.querySelectorAll('.promises tbody tr')];
  const alike = heads.filter(head => !lines.some(line => line.cells[head.cellIndex].matches('.differs, :has(details)')));
  return new Set(alike.map(head => head.dataset.field));
}

function start() {
  document.documentElement.classList.add('js');
  theme(remembered('theme') ?? 'system');
  document.addEventListener('click', clicked);
  document.addEventListener('keydown', pressed);
  addEventListener('hashchange', () => { show(parsed(location.hash), !ours); ours = false; });
  addEventListener('scroll', () => scrolls.set(location.hash, scrollY), { passive: true });
  narrow.addEventListener('change', () => { if (narrow.matches) labelled(document.getElementById(state.page)); });
  addEventListener('beforeprint', beforePrint);
  addEventListener('afterprint', afterPrint);
  document.getElementById('theme').addEventListener('click', keys.t);
  document.getElementById('help').addEventListener('click', keys['?']);
  document.getElementById('clear').addEventListener('click', keys.c);
  document.getElementById('more').addEventListener('click', () => { length += PAGE; fill(); });
  document.getElementById('differing').addEventListener('change', showColumns);
  document.getElementById('compare-form').addEventListener('change', changedPair);
  document.getElementById('ranking-form').addEventListener('change', chosenRanking);
  document.getElementById('compare-swap').addEventListener('click', swapped);
  for (const button of document.querySelectorAll('#field-groups button')) {
    button.addEventListener('click', () => go({ page: 'semantics', own: { columns: button.dataset.group } }, true));
  }
  document.getElementById('search').addEventListener('submit', event => event.preventDefault());
  document.getElementById('query').addEventListener('input', event => go({ q: event.target.value }, true));
  document.getElementById('counters').open = innerWidth > 640; // on a telephone they would hide the list
  show(parsed(location.hash));
  document.documentElement.dataset.ready = 'yes';
}

// The first page is there before the data is unpacked.
document.documentElement.classList.add('js');
for (const page of document.querySelectorAll('.page')) page.classList.toggle('here', page.id === 'overview');
load().then(start, error => {
  document.documentElement.classList.remove('js');
  document.documentElement.dataset.broken = String(error); // the page stays readable without its script
});
