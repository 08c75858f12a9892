const value = cell => { const n = parseFloat(cell.textContent.replace('−', '-').replace('<', '')); return Number.isFinite(n) ? n : cell.textContent };
for (const table of document.querySelectorAll('table.sortable')) {
  table.querySelectorAll('thead th').forEach((head, column) => {
    const button = document.createElement('button');
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const down = head.ariaSort !== 'descending';
      table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === 'number' ? 1 : -1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(value(a.cells[column]), value(b.cells[column])) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    };
  });
}
for (const plot of document.querySelectorAll('figure > svg')) {
  const link = document.createElement('a');
  link.textContent = 'SVG';
  link.className = 'take';
  link.href = '#';
  link.onclick = () => {
    const copy = plot.cloneNode(true);
    copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
    copy.prepend(document.querySelector('style').cloneNode(true));
    link.href = 'data:image/svg+xml,' + encodeURIComponent(copy.outerHTML);
    link.download = plot.getAttribute('aria-label') + '.svg';
  };
  plot.after(link);
}
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(d => d.open = true));
