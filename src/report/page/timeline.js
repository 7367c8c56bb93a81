// The timeline: a line a client, a bar a task, whose phases differ in height as well as in colour.
const FATES = ['counted', 'late', 'dropped', 'cancelled'];
const FATE_SHAPES = { late: 'triangle', dropped: 'cross', cancelled: 'diamond' };
const PHASES = [['download', 'download_s', 0.4], ['training', 'training_s', 1], ['upload', 'upload_s', 0.65], ['wait', 'wait_s', 0.2]];
const ORDERS = [['data', 'in the order of the data'], ['lost', 'most lost tasks first'], ['slow', 'slowest first']];

// Lines that are in view before anything is zoomed.
const FIRST_ROWS = 60;

class Timeline {
  constructor(figure) {
    this.figure = figure;
    this.gather();
    this.filter = { fates: new Set(FATES), device: '', client: '', aggregator: '', from: null, to: null, order: 'data' };
    this.view = new View(figure, range => this.describe(range));
    this.view.step = by => this.step(by);
    this.view.buttons.append(
      button('rows +', 'Fewer clients, in taller rows', () => this.view.zoom(0.5, 'y')),
      button('rows −', 'More clients', () => this.view.zoom(2, 'y')));
    this.legend = element('div', { class: 'legend' }, ...PHASES.map(([name,, height]) => element('span', {},
      swatch((draw, width, room) => { draw.fillStyle = seriesColour(0, name); draw.fillRect(2, room * (1 - height) / 2, width - 4, room * height); }), name)));
    this.parts = [this.filters(), this.legend, this.view.buttons, this.view.host, this.view.readout, this.view.status];
  }

  // The tasks as objects: drawing reads them often.
  gather() {
    const { figure } = this;
    const numbers = name => figure.has(name) ? figure.numbers(name) : null;
    const [client, task, round, start] = ['client', 'task', 'round', 'dispatched_at_s'].map(numbers);
    const aggregator = numbers('aggregator');
    const lengths = PHASES.map(([, name]) => numbers(name));
    const text = name => row => figure.value(figure.column(name), row);
    const [id, device, fate, outcome] = ['client_id', 'device', 'fate', 'outcome'].map(text);
    this.tasks = task.map((number, row) => {
      const phases = lengths.map(values => values[row]);
      return {
        number, client: client[row], id: id(row), device: device(row), fate: fate(row), outcome: outcome(row), round: round[row],
        aggregator: aggregator?.[row] ?? 0, start: start[row], phases, end: start[row] + phases.reduce((sum, part) => sum + (part ?? 0), 0),
      };
    });
    this.last = this.tasks.reduce((last, one) => Math.max(last, one.end), 0);
  }

  filters() {
    const change = act => value => { act(value); this.draw(); };
    const boxes = FATES.map(fate => element('label', { class: 'fate' },
      element('input', { type: 'checkbox', checked: true, name: fate, onchange: event => {
        if (event.target.checked) this.filter.fates.add(fate); else this.filter.fates.delete(fate);
        this.draw();
      } }),
      swatch((draw, width, height) => this.fateMark(draw, fate, width / 2, height / 2, 4)), fate));
    const devices = this.figure.names('device').texts;
    const aggregators = [...new Set(this.tasks.map(task => task.aggregator))].sort((a, b) => a - b);
    const named = number => number === 0 ? 'server' : `aggregator ${number}`;
    const number = (label, key) => element('label', {}, `${label} `, element('input', {
      type: 'number', min: '1', class: 'short', name: key, oninput: event => change(value => { this.filter[key] = value; })(event.target.value === '' ? null : Number(event.target.value)),
    }));
    return element('form', { class: 'controls', role: 'search', 'aria-label': 'Filter tasks', onsubmit: event => event.preventDefault() },
      element('fieldset', {}, element('legend', { class: 'unseen' }, 'Fates'), ...boxes),
      devices.length > 1 ? chooser('device', [['', 'all'], ...devices.map(name => [name, name])], change(value => { this.filter.device = value; })) : null,
      aggregators.length > 1 ? chooser('asked by', [['', 'all'], ...aggregators.map(one => [String(one), named(one)])], change(value => { this.filter.aggregator = value; })) : null,
      element('label', {}, 'client ', element('input', { type: 'search', name: 'client', placeholder: 'part of a name', oninput: event => change(value => { this.filter.client = value.toLowerCase(); })(event.target.value) })),
      number('rounds', 'from'), number('to', 'to'),
      chooser('clients', ORDERS, change(value => { this.filter.order = value; })));
  }

  passes(task) {
    const { fates, device, client, aggregator, from, to } = this.filter;
    return fates.has(task.fate) && (!device || task.device === device) && (!client || task.id.toLowerCase().includes(client))
      && (aggregator === '' || task.aggregator === Number(aggregator)) && (from === null || task.round >= from) && (to === null || task.round <= to);
  }

  // The lines: clients with tasks that pass the filter, in the chosen order.
  arrange() {
    const lines = new Map();
    this.passing = this.tasks.filter(task => this.passes(task));
    for (const task of this.passing) {
      if (!lines.has(task.client)) lines.set(task.client, { client: task.client, id: task.id, device: task.device, tasks: [], lost: 0, time: 0 });
      const line = lines.get(task.client);
      line.tasks.push(task);
      line.lost += task.fate !== 'counted';
      line.time = Math.max(line.time, task.end - task.start - (task.phases[3] ?? 0));
    }
    const worth = { data: line => -line.client, lost: line => line.lost, slow: line => line.time }[this.filter.order];
    this.lines = [...lines.values()].sort((a, b) => worth(b) - worth(a) || a.client - b.client);
    this.lines.forEach(line => line.tasks.sort((a, b) => a.start - b.start));
  }

  describe(range) {
    const [from, to] = range.x.map(clock);
    const rows = this.lines?.length ?? 0;
    const first = Math.max(0, Math.ceil(range.y[0]));
    const last = Math.min(rows, Math.floor(range.y[1]) + 1);
    const part = last - first < rows ? `, lines ${first + 1} to ${last}` : '';
    return `${plain(this.passing?.length ?? 0)} of ${plain(this.tasks.length)} tasks on ${plain(rows)} clients${part}; virtual time ${from} to ${to}`;
  }

  draw() {
    this.arrange();
    this.place = null;
    this.parts.forEach(part => part.querySelectorAll('.swatch').forEach(canvas => canvas.repaint()));
    const tones = { text: colour('soft'), grid: colour('grid') };
    const time = { title: 'virtual time', unit: 's' };
    const rows = Math.max(this.lines.length, 1);
    const height = Math.min(Math.max(rows * 16 + 60, 180), 640);
    const name = row => this.lines[row] ? shortened(this.lines[row].id) : '';
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];
    const options = {
      height,
      axes: [axis(time, tones.text, tones.grid, BELOW), {
        stroke: tones.text, grid: { show: false }, ticks: { show: false }, size: 110, font: '11px system-ui, sans-serif', incrs: steps, space: 14,
        values: (_, splits) => splits.map(row => Number.isInteger(row) ? name(row) : ''),
      }],
      // The first line is on top.
      scales: { y: { dir: -1 } },
      series: [{}, { paths: () => null, points: { show: false } }],
      cursor: { points: { show: false } },
      hooks: { draw: [plot => this.paint(plot)], setCursor: [plot => this.read(plot)] },
    };
    const end = this.last * 1.005 || 1;
    const full = { x: [0, end], y: [-0.7, rows - 0.3] };
    const isFirst = !this.view.plot;
    this.view.show(options, [[0, end], [0, rows]], full);
    // Of many clients the first come into view, in rows that can be told apart.
    if (isFirst && rows > FIRST_ROWS) this.view.set('y', -0.7, FIRST_ROWS - 0.7);
  }

  paint(plot) {
    const { ctx, bbox } = plot;
    const [from, to] = this.view.range.x;
    const [top, bottom] = this.view.range.y;
    const tones = PHASES.map(([name]) => seriesColour(0, name));
    const place = time => plot.valToPos(time, 'x', true);
    const room = Math.abs(plot.valToPos(1, 'y', true) - plot.valToPos(0, 'y', true));
    const thick = Math.min(room * 0.8, 22 * devicePixelRatio);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (let row = Math.max(0, Math.floor(top)); row <= Math.min(this.lines.length - 1, Math.ceil(bottom)); row += 1) {
      const middle = plot.valToPos(row, 'y', true);
      for (const task of this.lines[row].tasks) {
        if (task.end < from || task.start > to) continue;
        let at = task.start;
        task.phases.forEach((length, phase) => {
          if (length === null) return;
          const tall = Math.max(thick * PHASES[phase][2], 1);
          const left = place(at);
          ctx.fillStyle = tones[phase];
          ctx.fillRect(left, middle - tall / 2, Math.max(place(at + length) - left, 0.7), tall);
          at += length;
        });
        if (task.fate !== 'counted') this.fateMark(ctx, task.fate, place(at), middle, Math.min(Math.max(thick * 0.32, 2), 6 * devicePixelRatio));
      }
    }
    ctx.restore();
  }

  fateMark(draw, fate, x, y, size) {
    draw.strokeStyle = draw.fillStyle = seriesColour(0, fate);
    draw.lineWidth = Math.max(size / 2.5, 1);
    if (!FATE_SHAPES[fate]) { draw.fillRect(x - size * 1.5, y - size / 2, size * 3, size); return; }
    mark(draw, FATE_SHAPES[fate], x, y, size);
    if (fate === 'late') draw.fill(); else draw.stroke();
  }

  // Goes from task to task, line by line, and brings each into view.
  step(by) {
    const tasks = this.lines.flatMap((line, row) => line.tasks.map(task => [row, task]));
    if (!tasks.length) return;
    const next = (this.place ?? (by > 0 ? -1 : tasks.length)) + by;
    this.place = Math.min(Math.max(next, 0), tasks.length - 1);
    const [row, task] = tasks[this.place];
    for (const [name, least, greatest] of [['x', task.start, task.end], ['y', row, row]]) {
      const [from, to] = this.view.range[name];
      const middle = (least + greatest) / 2;
      if (least < from || greatest > to) this.view.set(name, middle - (to - from) / 2, middle + (to - from) / 2);
    }
    this.tell(task);
  }

  // The task under the cursor, in words.
  read(plot) {
    const { left, top } = plot.cursor;
    if (left < 0) { this.view.readout.textContent = ''; return; }
    const line = this.lines[Math.round(plot.posToVal(top, 'y'))];
    const time = plot.posToVal(left, 'x');
    const task = line?.tasks.find(one => one.start <= time && time <= one.end);
    if (!task) { this.view.readout.textContent = line ? `${line.id} (${line.device}): no task at ${clock(time)}` : ''; return; }
    this.tell(task);
  }

  tell(task) {
    const phases = PHASES.flatMap(([name], phase) => task.phases[phase] === null ? [] : [`${name} ${clock(task.phases[phase])}`]);
    this.view.readout.textContent = `${task.id} (${task.device}), task ${task.number} of round ${task.round}, from ${clock(task.start)}: ${phases.join(', ')}; ${task.outcome.replaceAll('_', ' ')}`;
  }
}

function shortened(text) {
  return text.length > 15 ? `${text.slice(0, 14)}…` : text;
}
