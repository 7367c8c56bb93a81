// Puts the figures on the page, each when it comes near to being seen, and all before the page is printed.
const PRINT_WIDTH = 680;
const pending = new Map();
const drawn = [];

function shape(figure) {
  switch (figure.draw.kind) {
    case 'table': return null;
    case 'timeline': return new Timeline(figure);
    default: return new Chart(figure);
  }
}

// Draws a figure that was put on the page.
function render(holder) {
  const figure = pending.get(holder);
  if (!figure) return;
  pending.delete(holder);
  const made = shape(figure);
  const body = holder.querySelector('.body');
  if (!made) { body.append(tableOf(figure)); return; }
  body.append(...made.parts);
  made.draw();
  drawn.push(made);
}

const observer = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) { observer.unobserve(entry.target); render(entry.target); }
}, { rootMargin: '600px' });

function place(figure) {
  const isTable = figure.draw.kind === 'table';
  const numbers = element('details', { class: 'numbers' }, element('summary', {}, 'Numbers'));
  numbers.addEventListener('toggle', () => { if (numbers.open && numbers.children.length === 1) numbers.append(tableOf(figure)); });
  const holder = element('figure', { id: figure.key, class: `figure ${figure.draw.kind}` },
    element('figcaption', {}, element('h4', {}, figure.title), element('p', {}, ...sentence(figure.caption))),
    element('div', { class: 'body' }),
    ...figure.notes.map(note => element('p', { class: 'note' }, note)),
    element('div', { class: 'under' }, download(figure), isTable ? null : numbers));
  pending.set(holder, figure);
  observer.observe(holder);
  return holder;
}

function fill(host, sections, prefix) {
  return sections.map((section, index) => {
    const id = `${prefix}-section-${index + 1}`;
    host.append(element('section', { id, 'aria-label': section.title }, element('h3', {}, section.title),
      element('div', { class: 'grid' }, ...section.figures.map(figure => place(new Figure(figure, prefix))))));
    return [id, section.title];
  });
}

function contents(links) {
  const nav = document.getElementById('contents');
  if (nav) nav.append(element('ul', {}, ...links.map(([id, title]) => element('li', {}, element('a', { href: `#${id}` }, title)))));
}

function redraw() { drawn.forEach(one => one.draw()); }

// Paper is white and of one width, whatever the screen is.
function print(on) {
  document.documentElement.classList.toggle('printing', on);
  if (on) {
    const open = holder => !holder.closest('details:not([open])');
    [...pending.keys()].filter(open).forEach(render);
  }
  drawn.forEach(one => { one.view.width = on ? () => PRINT_WIDTH : View.prototype.width; one.view.fit(); one.draw(); });
}

async function start() {
  const columns = await unpack();
  const compared = document.querySelector('[data-comparison]');
  const links = [];
  if (compared) links.push(...fill(compared, [columns.comparison], 'comparison'));
  for (const host of document.querySelectorAll('[data-run]')) {
    const found = fill(host, columns.runs[host.dataset.run], `run-${Number(host.dataset.run) + 1}`);
    if (!compared) links.push(...found);
  }
  contents(links);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  addEventListener('beforeprint', () => print(true));
  addEventListener('afterprint', () => print(false));
  document.documentElement.dataset.ready = 'yes';
}

start().catch(error => {
  const trouble = document.getElementById('trouble');
  trouble.hidden = false;
  trouble.textContent = `The figures cannot be shown: ${error.message}. This page needs a browser of 2023 or later.`;
  throw error;
});
