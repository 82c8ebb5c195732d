// A result to be sent: a link, an issue in words that needs no report, and the case itself.

function shared(about, one) {
  const heard = el('output', {}), kept = el('pre', { tabindex: 0, hidden: true });
  const copy = (label, text) => el('button', { type: 'button', onclick: async () => {
    kept.textContent = text();
    kept.hidden = false;
    await copied(kept.textContent, heard, kept);
    kept.hidden = heard.textContent === ' copied';
  } }, label);
  return el('div', { class: 'share' }, copy('Copy link', () => location.href), ' ', copy('Copy as issue', () => issue(about, one)), heard, kept, elsewhere(about, one));
}

// The line that asks a case again of an implementation, from where this page was written; or, of a name, from anywhere.
function again(about, id, name = '') {
  const [before, after] = (run.byId.get(id) ?? run.implementations[0]).replay;
  return name ? `${before.slice(0, before.indexOf('bnconf replay '))}bnconf replay ${name}${after}` : `${before}${about.file}${after}`;
}

// What needs no folder of the run: the command of a case with a name, and the file of one that is within this page.
function elsewhere(about, one) {
  const file = about && run.attached.get(about.id), name = about?.name || `${about?.id}.safetensors`;
  if (!about?.name && !file) return null;
  const bytes = file && btoa(Array.from(file, byte => String.fromCharCode(byte)).join(''));
  const link = file && el('p', {}, el('a', { href: `data:application/octet-stream;base64,${bytes}`, download: `${about.id}.safetensors` },
    `Download the case, ${(file.length / 1000).toPrecision(2)} kB`));
  return [link, command(about.name ? 'Without the folder of the run, anywhere: ' : 'Beside the file: ', again(about, one.kind.implementation, name))];
}

function issue(about, one) {
  const id = one.kind.implementation, known = one.kind.divergence.split(', ').filter(Boolean);
  const asked = about ? again(about, id, about.name) : '';
  const attach = about && !about.name && run.attached.has(about.id) ? [`The case is attached: ${about.id}.safetensors.`, ''] : [];
  return [
    `${id}: ${one.kind.output} is off${Number.isNaN(one.rho) ? '' : `, ρ = ${shown(one.rho)}`}`, '',
    `${why(one)}.`, `ρ is the error divided by the error that is allowed for this input.`, '',
    `Asked: ${about?.summary ?? ''}${one.step < 0 ? '' : `; step ${one.step}: ${about?.steps[one.step] ?? ''}`}`,
    `Case: ${one.case}${about?.name ? ` (${about.name})` : ''}, ${one.kind.dtype}`, `Versions: ${run.byId.get(id).versions}`,
    ...known.map(name => `Known as ${name}: ${run.reasons[name] ?? ''}`), '', ...attach, 'Ask it again:', '', `    ${asked}`, '',
    'A script that needs no bnconf, and an issue around it:', '', `    ${asked.replace('bnconf replay', 'bnconf explain')} --upstream`, '',
  ].join('\n');
}
