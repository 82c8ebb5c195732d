// A result to be sent: a link, and an issue in words that needs no report.

function shared(about, one) {
  const heard = el('output', {}), kept = el('pre', { tabindex: 0, hidden: true });
  const copy = (label, text) => el('button', { type: 'button', onclick: async () => {
    kept.textContent = text();
    kept.hidden = false;
    await copied(kept.textContent, heard, kept);
    kept.hidden = heard.textContent === ' copied';
  } }, label);
  return el('div', { class: 'share' }, copy('Copy link', () => location.href), ' ', copy('Copy as issue', () => issue(about, one)), heard, kept);
}

function issue(about, one) {
  const id = one.kind.implementation, known = one.kind.divergence.split(', ').filter(Boolean), [before, after] = run.byId.get(id).replay;
  const asked = about ? `${before}${about.file}${after}` : '';
  return [
    `${id}: ${one.kind.output} is off${Number.isNaN(one.rho) ? '' : `, ρ = ${shown(one.rho)}`}`, '',
    `${why(one)}.`, `ρ is the error divided by the error that is allowed for this input.`, '',
    `Asked: ${about?.summary ?? ''}${one.step < 0 ? '' : `; step ${one.step}: ${about?.steps[one.step] ?? ''}`}`,
    `Case: ${one.case}${about?.name ? ` (${about.name})` : ''}, ${one.kind.dtype}`, `Versions: ${run.byId.get(id).versions}`,
    ...known.map(name => `Known as ${name}: ${run.reasons[name] ?? ''}`), '', 'Ask it again:', '', `    ${asked}`, '',
    'A script that needs no bnconf, and an issue around it:', '', `    ${asked.replace('bnconf replay', 'bnconf explain')} --upstream`, '',
  ].join('\n');
}
