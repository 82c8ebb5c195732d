// The page: which part is shown, colours, keys. Everything is in the address, so back and forward need no code.

const THEMES = ['system', 'light', 'dark'];
const pages = [...document.querySelectorAll('nav a')].map(link => link.hash.slice(1));
const keys = {
  '/': () => { if (document.getElementById('filters').hidden) go({ page: 'results' }); setTimeout(focusQuery); },
  '?': () => document.getElementById('help-dialog').showModal(),
  j: () => step(1),
  k: () => step(-1),
  u: () => follow('up'),
  c: () => go({ page: state.page === 'case' ? 'results' : state.page, filters: {}, q: '' }),
  t: () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? 'system') + 1) % THEMES.length]),
};

function show(next) {
  const moved = next.page !== state.page || next.case !== state.case;
  state = next;
  for (const page of document.querySelectorAll('.page')) page.classList.toggle('here', page.id === state.page);
  for (const link of document.querySelectorAll('nav a')) {
    const here = link.hash === `#${state.page === 'case' ? 'results' : state.page}`;
    if (here) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
  }
  showFilters();
  if (state.page === 'failures') showFailures();
  if (state.page === 'results') showResults();
  if (state.page === 'case') showCase();
  const target = state.anchor ? document.getElementById(state.anchor) : null;
  if (target) {
    if (target.localName === 'details') target.open = true;
    target.hidden = false;
    target.scrollIntoView();
  } else if (moved) {
    scrollTo(0, 0);
  }
}

// A click on a link of ours changes the state; as plain links they work without the script.
function clicked(event) {
  const link = event.target.closest?.('a[href^="#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const { set, case: id, step } = link.dataset;
  if (set !== undefined) {
    const page = link.getAttribute('href') === '#results' ? 'results' : 'failures';
    go({ page, filters: parsed(`#${page}?${encoded(set)}`).filters, q: '' });
    if (page === 'failures') setTimeout(openFirst);
  } else if (id !== undefined) {
    const kind = run.groups.get(link.closest('.group').id);
    go({ case: id, at: { implementation: kind.implementation, step, output: kind.output } });
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

function openFirst() {
  const first = document.querySelector('#failures .group:not([hidden])');
  if (first) { first.open = true; first.scrollIntoView({ block: 'nearest' }); }
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

function differing(on) {
  for (const head of document.querySelectorAll('.promises thead th[data-field]')) {
    const n = head.cellIndex, cells = [...document.querySelectorAll('.promises tbody tr')].map(line => line.cells[n]);
    const same = !cells.some(cell => cell.classList.contains('differs') || cell.querySelector('details'));
    for (const cell of [head, ...cells]) cell.hidden = on && same;
  }
}

function start() {
  document.documentElement.classList.add('js');
  theme(remembered('theme') ?? 'system');
  document.addEventListener('click', clicked);
  document.addEventListener('keydown', pressed);
  addEventListener('hashchange', () => show(parsed(location.hash)));
  document.getElementById('theme').addEventListener('click', keys.t);
  document.getElementById('help').addEventListener('click', keys['?']);
  document.getElementById('clear').addEventListener('click', keys.c);
  document.getElementById('more').addEventListener('click', () => { length += PAGE; fill(); });
  document.getElementById('differing').addEventListener('change', event => differing(event.target.checked));
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
