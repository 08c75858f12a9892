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
const alone = plot => {
  const copy = plot.cloneNode(true);
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  copy.setAttribute('width', plot.viewBox.baseVal.width);
  copy.setAttribute('height', plot.viewBox.baseVal.height);
  copy.prepend(document.querySelector('style').cloneNode(true));
  return 'data:image/svg+xml,' + encodeURIComponent(copy.outerHTML);
};
const raster = async plot => {
  const image = new Image();
  image.src = alone(plot);
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [4 * image.width, 4 * image.height];
  const context = canvas.getContext('2d');
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--card');
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL('image/png');
};
for (const plot of document.querySelectorAll('figure > svg')) {
  const links = document.createElement('p');
  links.className = 'take';
  for (const [ending, make] of [['svg', alone], ['png', raster]]) {
    const link = document.createElement('a');
    link.textContent = ending.toUpperCase();
    link.href = '#';
    link.onclick = async event => {
      if (link.href.startsWith('data:')) return;
      event.preventDefault();
      link.href = await make(plot);
      link.download = plot.getAttribute('aria-label') + '.' + ending;
      link.click();
    };
    links.append(link, ' ');
  }
  plot.after(links);
}
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(d => d.open = true));
