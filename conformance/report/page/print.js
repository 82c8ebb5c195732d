// On paper everything is open, and semantics are as many tables as there are groups of columns, each of which fits.

const wasOpen = new Map();

function beforePrint() {
  for (const one of document.querySelectorAll('.page:not(.scripted) details')) {
    wasOpen.set(one, one.open);
    one.open = true;
  }
  const whole = document.querySelector('.promises'), groups = [...document.querySelectorAll('.promises thead th[scope=colgroup]')];
  document.getElementById('printed').replaceChildren(...groups.flatMap(group => {
    const columns = [...document.querySelectorAll(`.promises thead th[data-field][data-group="${group.dataset.group}"]`)].map(head => head.cellIndex);
    return [el('h3', {}, group.textContent), copyOf(whole, columns)];
  }));
}

function copyOf(whole, columns) {
  const lines = [...whole.rows].slice(1).map(row => el('tr', {}, [0, ...columns].map(n => {
    const cell = row.cells[n].cloneNode(true);
    cell.hidden = false;
    return cell;
  })));
  return el('table', { class: 'promises copy' }, el('thead', {}, lines[0]), el('tbody', {}, lines.slice(1)));
}

function afterPrint() {
  for (const [one, open] of wasOpen) one.open = open;
  wasOpen.clear();
  document.getElementById('printed').replaceChildren();
}
