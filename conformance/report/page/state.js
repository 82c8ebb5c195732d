// All state is in the address: #page?field=value&q=words&sort=-rho, and #case/ID?implementation=… for a case.

const FIELDS = ['framework', 'implementation', 'check', 'output', 'dtype', 'verdict', 'standing', 'change', 'divergence'];
const OWN = ['a', 'b', 'n', 'columns', 'in', 'of', 'by']; // what pages have for themselves
const AT = ['at-implementation', 'at-step', 'at-output'];
let state = { page: 'overview', filters: {}, q: '', sort: '', own: {} };

function parsed(hash) {
  const [path, search] = hash.replace(/^#/, '').split(/\?(.*)/s);
  const given = new URLSearchParams(search ?? ''), filters = {};
  for (const field of FIELDS) {
    const values = given.getAll(field);
    if (values.length) filters[field] = values;
  }
  const found = { page: 'overview', filters, q: given.get('q') ?? '', sort: given.get('sort') ?? '', case: '', at: {}, own: {} };
  for (const name of OWN) if (given.has(name)) found.own[name] = given.get(name);
  for (const name of AT) if (given.has(name)) found.at[name.slice(3)] = given.get(name);
  let name = path;
  try { name = decodeURIComponent(path); } catch { /* a stray %: taken as it is */ }
  if (name.startsWith('case/')) return { ...found, page: 'case', case: name.slice(5) };
  const target = name ? document.getElementById(name) : null;
  const page = target?.closest('.page');
  if (page) found.page = page.id;
  if (page && target !== page) found.anchor = name;
  return found;
}

function address(of) {
  const given = new URLSearchParams();
  for (const field of FIELDS) for (const one of of.filters[field] ?? []) given.append(field, one);
  if (of.q) given.set('q', of.q);
  if (of.sort) given.set('sort', of.sort);
  for (const [name, one] of Object.entries(of.own ?? {})) if (one) given.set(name, one);
  if (of.case) for (const [name, one] of Object.entries(of.at ?? {})) given.set(`at-${name}`, one);
  const search = given.toString(), path = of.case ? `case/${encodeURIComponent(of.case)}` : of.page;
  return `#${path}${search ? `?${search}` : ''}`;
}

// Go to a state: a new entry in the history, or with replace the same one. A frame may forbid either.
function go(change, replace = false) {
  const next = { ...state, case: '', at: {}, own: {}, anchor: '', ...change }, hash = address(next);
  if (replace) {
    try { history.replaceState(null, '', hash); } catch { /* a sandboxed frame: the address stays */ }
    show(parsed(hash));
  } else {
    move(hash);
  }
}

let ours = false; // the address is changed by us, and not by going back

function move(hash) {
  const same = hash === location.hash;
  ours = !same;
  try { location.hash = hash; } catch { /* as above */ }
  if (same || location.hash !== hash) { ours = false; show(parsed(hash)); } // otherwise hashchange shows it
}

function toggled(field, one) {
  const before = state.filters[field] ?? [];
  const after = before.includes(one) ? before.filter(given => given !== one) : [...before, one];
  const filters = { ...state.filters, [field]: after };
  if (!after.length) delete filters[field];
  return filters;
}

// Storage may be forbidden in a frame.
function remembered(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

function remember(name, given) {
  try { localStorage.setItem(name, given); } catch { /* for this visit only, then */ }
}
