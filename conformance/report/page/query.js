// The query language: words that must all hold. See the help in the page.

const NUMBERS = { rho: one => one.rho, step: one => one.step, kappa: one => run.byCase.get(one.case)?.kappa ?? NaN };
const WORDS = {
  implementation: one => one.kind.implementation,
  framework: one => one.kind.framework,
  check: one => one.kind.check,
  output: one => one.kind.output,
  dtype: one => one.kind.dtype,
  verdict: one => one.kind.verdict,
  standing: one => one.kind.standing,
  change: one => one.kind.change,
  divergence: one => one.kind.divergence,
  case: one => `${one.case} ${run.byCase.get(one.case)?.name ?? ''}`,
  cell: one => run.byCase.get(one.case)?.cell ?? '',
  mode: one => one.kind.output.split(' ')[1] ?? '',
};
const COMPARE = {
  '<': (a, b) => a < b, '<=': (a, b) => a <= b, '=': (a, b) => a === b, '>=': (a, b) => a >= b, '>': (a, b) => a > b,
};

const OF_CASE = ['case', 'cell']; // the fields that a result does not share with all that it is counted with

// Return {holds, ofKind, wrong, empty}: a function of a result; one of a kind of results, true or false where that holds
// for all of them and undefined where each has to be looked at; and what was not understood, in words.
function query(text) {
  const terms = [], wrong = [];
  for (const word of text.match(/-?[a-z]+:"[^"]*"|-?"[^"]*"|\S+/gi) ?? []) {
    const denied = word.startsWith('-') && word.length > 1;
    try {
      const { holds, ofKind } = term(denied ? word.slice(1) : word);
      terms.push(denied ? { holds: one => !holds(one), ofKind: kind => not(ofKind(kind)) } : { holds, ofKind });
    } catch (error) {
      wrong.push(error.message);
    }
  }
  const ofKind = kind => {
    const all = terms.map(one => one.ofKind(kind));
    return all.includes(false) ? false : all.includes(undefined) ? undefined : true;
  };
  return { holds: one => terms.every(given => given.holds(one)), ofKind, wrong: wrong.join('; '), empty: terms.length === 0 };
}

function not(known) {
  return known === undefined ? undefined : !known;
}

function term(word) {
  const number = word.match(/^([a-z]+)(<=|>=|<|>|=)(.*)$/i);
  if (number) return comparison(...number.slice(1));
  const field = word.match(/^([a-z]+):(.*)$/is);
  if (!field) {
    const wanted = bare(word);
    return { holds: one => anything(one).includes(wanted), ofKind: kind => ofAll(kind).includes(wanted) || undefined };
  }
  const name = field[1].toLowerCase(), read = WORDS[name];
  if (!read) throw new Error(`no field is called ${field[1]}; there are ${Object.keys(WORDS).join(', ')}`);
  const wanted = bare(field[2]).split(',').filter(Boolean).map(pattern);
  const holds = one => wanted.some(matches => matches(read(one).toLowerCase()));
  return { holds, ofKind: kind => OF_CASE.includes(name) ? undefined : holds({ kind }) };
}

function comparison(name, how, text) {
  const read = NUMBERS[name.toLowerCase()], wanted = text === 'inf' ? Infinity : Number(text);
  if (!read) throw new Error(`no number is called ${name}; there are ${Object.keys(NUMBERS).join(', ')}`);
  if (text === '' || Number.isNaN(wanted)) throw new Error(`${name}${how}${text}: must end in a number`);
  const above = read === NUMBERS.rho && how.startsWith('>');
  return { holds: one => COMPARE[how](read(one), wanted), ofKind: kind => above && !COMPARE[how](kind.worst, wanted) ? false : undefined };
}

function pattern(text) {
  if (!text.includes('*')) return given => given.includes(text);
  const parts = text.split('*').map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const whole = new RegExp(`^${parts.join('.*')}$`, 's');
  return given => whole.test(given);
}

function bare(word) {
  return word.replaceAll('"', '').toLowerCase();
}

function anything(one) {
  const about = run.byCase.get(one.case);
  return [ofAll(one.kind), one.case, about?.name, about?.cell, about?.summary, one.said, one.numerics].join(' ').toLowerCase();
}

function ofAll({ implementation, output, check, dtype, verdict, standing, change, divergence }) {
  return [implementation, output, check, dtype, verdict, standing, change, divergence].join(' ').toLowerCase();
}
