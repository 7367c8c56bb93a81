// The numbers of a figure as a table that can be sorted, and as a download.
const SHOWN_ROWS = 200;

function tableOf(figure) {
  const body = element('tbody');
  const order = Array.from({ length: figure.length }, (_, row) => row);
  const heads = figure.columns.map(column => element('th', { scope: 'col', 'aria-sort': 'none' }));
  const fill = () => {
    const rows = order.slice(0, SHOWN_ROWS).map(row => element('tr', {}, ...figure.columns.map(column => {
      const value = figure.value(column, row);
      return element('td', { class: typeof value === 'string' ? 'text' : 'number' }, format(value, column.unit));
    })));
    body.replaceChildren(...rows);
  };
  const sort = place => {
    const column = figure.columns[place];
    const ascending = heads[place].getAttribute('aria-sort') !== 'ascending';
    heads.forEach((head, index) => head.setAttribute('aria-sort', index !== place ? 'none' : ascending ? 'ascending' : 'descending'));
    const compare = (a, b) => {
      // What is absent comes last in both directions.
      if (a === null || b === null) return (a === null) - (b === null);
      const less = typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b;
      return ascending ? less : -less;
    };
    order.sort((a, b) => compare(figure.value(column, a), figure.value(column, b)) || a - b);
    fill();
  };
  figure.columns.forEach((column, place) => {
    heads[place].append(element('button', { type: 'button', onclick: () => sort(place) }, column.title + unitOf(column.unit)));
  });
  fill();
  const table = element('table', {}, element('caption', { class: 'unseen' }, figure.title),
    element('thead', {}, element('tr', {}, ...heads)), body);
  const cut = figure.length > SHOWN_ROWS
    ? element('p', { class: 'note' }, `${SHOWN_ROWS} of ${plain(figure.length)} rows are shown in the chosen order; the CSV has all.`) : null;
  return element('div', { class: 'sheet', tabindex: '0', role: 'region', 'aria-label': `Table: ${figure.title}` },
    ...[table, cut].filter(Boolean));
}

// A link that hands out the figure's numbers; they are written when it is followed.
function download(figure) {
  const link = element('a', { class: 'csv', href: '#', download: `${figure.key}.csv`, 'aria-label': `Download ${figure.title} as CSV` }, 'CSV');
  link.addEventListener('click', () => {
    if (link.href.startsWith('blob:')) URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new Blob([figure.csv()], { type: 'text/csv' }));
  });
  return link;
}
