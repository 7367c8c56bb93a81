// Lines, bars and points, drawn by uPlot; zooming, moving and reading them by mouse, by keys and by buttons.
const MARGIN = 0.02;

// The least and greatest of numbers, with a little room; a single value gets room on both sides.
function extent(values, room = MARGIN) {
  let [least, greatest] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null || value === undefined) continue;
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  }
  if (least > greatest) return [0, 1];
  const around = least < greatest ? (greatest - least) * room : Math.abs(greatest) * 0.1 || 1;
  return [least - around, greatest + around];
}

// An axis in the unit of its column.
function axis(column, tone, grid, more = {}) {
  return {
    stroke: tone, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 },
    font: '12px system-ui, sans-serif', labelFont: '12px system-ui, sans-serif',
    label: column.title + unitOf(column.unit), labelSize: 18, labelGap: 2,
    values: (_, splits) => splits.map(value => format(value, column.unit)),
    ...(column.unit === 's' ? { incrs: CLOCK_STEPS } : {}),
    ...(WHOLE.has(column.unit) ? { incrs: WHOLE_STEPS } : {}),
    ...more,
  };
}

const BELOW = { size: 32 };
const QUANTITIES = { B: 'bytes', J: 'energy', s: 'time', 1: '' };

// The upright axis: it is named by its only series, or by what the unit of all of them measures.
function upright(column, count, tones) {
  const quantity = QUANTITIES[column.unit] ?? column.unit;
  const named = count > 1 ? { title: quantity, unit: SILENT.has(column.unit) ? column.unit : '1' } : column;
  return axis(named, tones.text, tones.grid, { size: 64 });
}

// A plot that can be zoomed within its full range, and says what it shows.
class View {
  constructor(figure, describe) {
    this.figure = figure;
    this.describe = describe;
    this.host = element('div', {
      class: 'plot', tabindex: '0', role: 'group', 'aria-label': `Chart: ${figure.title}. ${figure.caption.replaceAll('`', '')}`, onkeydown: event => this.key(event),
    });
    this.status = element('p', { class: 'status', 'aria-live': 'polite' });
    this.readout = element('p', { class: 'readout', 'aria-live': 'polite' });
    this.buttons = element('span', { class: 'zoom' },
      button('+', 'Zoom in', () => this.zoom(0.5)), button('−', 'Zoom out', () => this.zoom(2)),
      button('all', 'Show all', () => this.reset()));
    this.resized = onceAFrame(() => this.fit());
    new ResizeObserver(this.resized).observe(this.host);
  }

  // Puts a new plot into the host; `full` is the whole range of each scale that can be zoomed.
  show(options, data, full) {
    const kept = this.plot && this.full && this.full.x[0] === full.x[0] && this.full.x[1] === full.x[1] ? this.shown() : null;
    this.plot?.destroy();
    this.full = full;
    const scales = {};
    for (const [name, range] of Object.entries(full)) scales[name] = { time: false, range: () => this.range?.[name] ?? range, ...options.scales?.[name] };
    this.range = kept ? { ...full, x: kept } : { ...full };
    const hooks = { ...options.hooks, setSelect: [plot => this.selected(plot)] };
    this.plot = new uPlot({
      width: this.width(), height: options.height ?? 260, legend: { show: false }, ...options, hooks,
      scales: { ...options.scales, ...scales },
      cursor: { drag: { x: true, y: Boolean(full.y), uni: 24, setScale: false }, bind: { dblclick: () => () => this.reset() }, ...options.cursor },
    }, data, this.host);
    this.told();
  }

  width() { return Math.max(240, Math.floor(this.host.clientWidth || 600)); }

  fit() {
    if (this.plot && this.plot.width !== this.width()) this.plot.setSize({ width: this.width(), height: this.plot.height });
  }

  shown() { return this.range.x; }

  // Shows a part of the full range of a scale; a part that leaves it is moved back inside.
  set(name, least, greatest) {
    const [first, last] = this.full[name];
    const span = Math.min(greatest - least, last - first);
    const from = Math.min(Math.max(least, first), last - span);
    this.range = { ...this.range, [name]: [from, from + span] };
    this.plot.setScale(name, { min: from, max: from + span });
    this.told();
  }

  selected(plot) {
    const { left, top, width, height } = plot.select;
    if (width <= 1 && height <= 1) return;
    if (width > 1 && width < plot.over.clientWidth - 1) this.set('x', plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x'));
    if (this.full.y && height > 1 && height < plot.over.clientHeight - 1) {
      const ends = [plot.posToVal(top, 'y'), plot.posToVal(top + height, 'y')];
      this.set('y', Math.min(...ends), Math.max(...ends));
    }
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  zoom(factor, name = 'x') {
    const [least, greatest] = this.range[name];
    const half = (greatest - least) * factor / 2;
    // A view closer than a millionth of the whole shows nothing but rounding.
    if (half * 2e6 < this.full[name][1] - this.full[name][0]) return;
    const middle = (least + greatest) / 2;
    this.set(name, middle - half, middle + half);
  }

  pan(share, name = 'x') {
    const [least, greatest] = this.range[name];
    const by = (greatest - least) * share;
    this.set(name, least + by, greatest + by);
  }

  reset() {
    for (const [name, range] of Object.entries(this.full)) this.set(name, ...range);
  }

  key(event) {
    if (event.target !== this.host || event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      '+': () => this.zoom(0.5), '=': () => this.zoom(0.5), '-': () => this.zoom(2), '0': () => this.reset(), Home: () => this.reset(),
      ArrowLeft: () => event.shiftKey ? this.step(-1) : this.pan(-0.2),
      ArrowRight: () => event.shiftKey ? this.step(1) : this.pan(0.2),
      ...(this.full.y ? { ArrowUp: () => this.pan(-0.2, 'y'), ArrowDown: () => this.pan(0.2, 'y') } : {}),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  // Moves the cursor to the next place that has values, so that they can be read without a mouse.
  step(by) {
    const xs = this.plot.data[0];
    const now = this.plot.cursor.idx ?? (by > 0 ? -1 : xs.length);
    const next = Math.min(Math.max(now + by, 0), xs.length - 1);
    this.plot.setCursor({ left: this.plot.valToPos(xs[next], 'x'), top: this.plot.over.clientHeight / 2 });
  }

  told() {
    this.status.textContent = this.describe(this.range, this.full);
  }
}

// A figure of series over a choice of columns, with a legend that shows and hides them.
class Chart {
  constructor(figure) {
    this.figure = figure;
    this.hidden = new Set();
    const { kind, x } = figure.draw;
    this.xs = kind === 'lines' ? x : [x];
    this.x = figure.column(this.xs[0]);
    this.view = new View(figure, range => this.describe(range));
    this.legend = element('div', { class: 'legend', role: 'group', 'aria-label': 'Series' });
    this.controls = element('div', { class: 'controls' }, ...(this.xs.length > 1 ? [this.choice()] : []), this.view.buttons);
    this.parts = [this.controls, this.legend, this.view.host, this.view.readout, this.view.status];
  }

  // The part of the data that is shown, without the room around it.
  describe(range) {
    const [least, greatest] = range.x;
    const shown = this.view.plot.data[0].filter(value => value >= least && value <= greatest);
    if (!shown.length) return `${this.x.title}: no values between ${format(least, this.x.unit)} and ${format(greatest, this.x.unit)}`;
    return `${this.x.title}: ${format(shown[0], this.x.unit)} to ${format(shown[shown.length - 1], this.x.unit)}`;
  }

  choice() {
    const choices = this.xs.map(name => [name, this.figure.column(name).title]);
    return chooser('against', choices, name => { this.x = this.figure.column(name); this.draw(); });
  }

  // The series: each a name, a unit, its rows and its values.
  series() {
    const { draw } = this.figure;
    const ys = [draw.y].flat().map(name => this.figure.column(name));
    const split = draw.split ? this.figure.column(draw.split) : null;
    if (!split) return ys.map(y => ({ name: y.title, meaning: y.name, y, rows: [...Array(this.figure.length).keys()] }));
    const { texts, rows } = split.values.names;
    // The place of a text is its colour's, also where others have no rows.
    const all = texts.flatMap((text, place) => ys.map(y => ({
      name: text, meaning: text, y, place, rows: rows.flatMap((of, row) => of === place ? [row] : []),
    })));
    return all.filter(one => one.rows.length);
  }

  draw() {
    const all = this.series();
    all.forEach((one, order) => {
      const index = one.place ?? order;
      Object.assign(one, { index, tone: seriesColour(index, one.meaning) });
    });
    const shown = all.filter(one => !this.hidden.has(one.name));
    const build = { lines: drawLines, bars: drawBars, points: drawPoints }[this.figure.draw.kind];
    const tones = { text: colour('soft'), grid: colour('grid') };
    const { options, data, full } = build(this.figure, this.x, shown, tones);
    const hooks = { ...options.hooks, setCursor: [plot => this.read(plot, shown)] };
    this.view.show({ ...options, hooks }, data, full);
    this.list(all);
  }

  list(all) {
    const items = all.map(one => element('button', {
      type: 'button', 'aria-pressed': String(!this.hidden.has(one.name)), title: 'Show or hide', onclick: () => this.toggle(one.name),
    }, swatch((draw, width, height) => this.sample(one, draw, width, height)), one.name));
    const focus = [...this.legend.children].indexOf(document.activeElement);
    this.legend.replaceChildren(...items);
    if (focus >= 0) this.legend.children[focus]?.focus();
  }

  sample(one, draw, width, height) {
    draw.strokeStyle = draw.fillStyle = one.tone;
    draw.lineWidth = 2;
    switch (this.figure.draw.kind) {
      case 'bars': draw.fillStyle = pattern(one.index, one.tone); draw.fillRect(2, 1, width - 4, height - 2); break;
      case 'points': mark(draw, SHAPES[one.index % SHAPES.length], width / 2, height / 2, 4); paintMark(draw, SHAPES[one.index % SHAPES.length]); break;
      default: draw.setLineDash(DASHES[one.index % DASHES.length]); draw.beginPath(); draw.moveTo(0, height / 2); draw.lineTo(width, height / 2); draw.stroke();
    }
  }

  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.draw();
  }

  // The values under the cursor, in words.
  read(plot, shown) {
    const place = plot.cursor.idx;
    if (place === null || place === undefined) { this.view.readout.textContent = ''; return; }
    const at = format(plot.data[0][place], this.x.unit);
    const parts = shown.flatMap(one => {
      const row = one.rowAt?.(place);
      if (row === undefined || row === null) return [];
      const value = this.figure.value(one.y, row);
      const who = this.figure.draw.kind === 'points' && this.figure.has('client_id') ? `${this.figure.value(this.figure.column('client_id'), row)} ` : '';
      return value === null ? [] : [`${who}${one.name} ${format(value, one.y.unit)}`];
    });
    this.view.readout.textContent = `${this.x.title} ${at}: ${parts.join(' · ')}`;
  }
}

function paintMark(draw, shape) {
  if (shape === 'circle') draw.fill(); else draw.stroke();
}

// Series with rows of their own on one ascending axis. Rows of one place stay apart only where `apart` says so.
function aligned(figure, x, series, apart) {
  const values = figure.numbers(x.name);
  const places = [];
  for (const one of series) for (const row of one.rows) if (values[row] !== null) places.push([values[row], row, one]);
  places.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const xs = [];
  const rows = series.map(() => []);
  for (const [value, row, one] of places) {
    const own = rows[series.indexOf(one)];
    if (apart || !xs.length || xs[xs.length - 1] !== value) xs.push(value);
    own[xs.length - 1] = row;
  }
  series.forEach((one, index) => { one.rowAt = place => rows[index][place]; });
  const column = (one, index) => xs.map((_, place) => {
    const row = rows[index][place];
    return row === undefined ? null : figure.numbers(one.y.name)[row];
  });
  return [xs, ...series.map(column)];
}

function drawLines(figure, x, series, tones) {
  const data = aligned(figure, x, series, false);
  const few = data[0].length <= 60;
  const bands = [];
  if (figure.draw.band) {
    const place = name => series.findIndex(one => one.y.name === name) + 1;
    const [top, bottom] = figure.draw.band.map(place);
    if (top && bottom) bands.push({ series: [top, bottom], fill: colour('band') });
  }
  const y = series[0]?.y ?? figure.column([figure.draw.y].flat()[0]);
  return {
    data,
    full: { x: extent(data[0], 0.01) },
    options: {
      bands,
      axes: [axis(x, tones.text, tones.grid, BELOW), upright(y, [figure.draw.y].flat().length, tones)],
      scales: { y: { range: (_, least, greatest) => extent([least, greatest], 0.06) } },
      series: [{}, ...series.map(one => ({
        stroke: one.tone, width: 2, dash: DASHES[one.index % DASHES.length], spanGaps: true,
        points: { show: few, size: 6, fill: one.index % 2 ? colour('paper') : one.tone, stroke: one.tone },
      }))],
    },
  };
}

function drawBars(figure, x, series, tones) {
  const { stacked } = figure.draw;
  const data = aligned(figure, x, series.length ? series : [], false);
  const sums = new Array(data[0].length).fill(0);
  const tops = data.slice(1).map(values => values.map((value, place) => stacked ? (sums[place] += value ?? 0) : value || null));
  // The highest is drawn first and the others over it.
  const order = stacked ? [...series.keys()].reverse() : [...series.keys()];
  const xs = data[0];
  const gap = xs.length > 1 ? Math.min(...xs.slice(1).map((value, place) => value - xs[place]).filter(Boolean)) : 1;
  const share = stacked || series.length < 2 ? 0.8 : 0.42;
  const y = figure.column(figure.draw.y[0]);
  const paths = place => uPlot.paths.bars({ size: [share, 80], align: stacked || series.length < 2 ? 0 : place ? 1 : -1 });
  const top = extent([0, ...tops.flat()], 0)[1];
  return {
    data: [xs, ...order.map(place => tops[place])],
    full: { x: xs.length ? [xs[0] - gap * 0.7, xs[xs.length - 1] + gap * 0.7] : [0, 1] },
    options: {
      axes: [axis(x, tones.text, tones.grid, BELOW), upright(y, figure.draw.y.length, tones)],
      scales: { y: { range: () => [0, top * 1.05 || 1] } },
      series: [{}, ...order.map(place => ({
        stroke: series[place].tone, width: 1, fill: () => pattern(series[place].index, series[place].tone), paths: paths(place), points: { show: false },
      }))],
    },
  };
}

function drawPoints(figure, x, series, tones) {
  const data = aligned(figure, x, series, true);
  const y = figure.column(figure.draw.y);
  const paint = plot => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    if (figure.draw.diagonal) diagonal(plot, tones);
    series.forEach((one, index) => {
      ctx.strokeStyle = ctx.fillStyle = one.tone;
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.globalAlpha = 0.85;
      const shape = SHAPES[one.index % SHAPES.length];
      data[0].forEach((value, place) => {
        const height = data[index + 1][place];
        if (height === null) return;
        mark(ctx, shape, plot.valToPos(value, 'x', true), plot.valToPos(height, 'y', true), 3.5 * devicePixelRatio);
        paintMark(ctx, shape);
      });
    });
    ctx.restore();
  };
  return {
    data,
    full: { x: extent(data[0], 0.04) },
    options: {
      axes: [axis(x, tones.text, tones.grid, BELOW), upright(y, 1, tones)],
      scales: { y: { range: (_, least, greatest) => extent([least, greatest], 0.06) } },
      series: [{}, ...series.map(one => ({ stroke: one.tone, paths: () => null, points: { show: false } }))],
      hooks: { draw: [paint] },
    },
  };
}

function diagonal(plot, tones) {
  const { ctx, scales } = plot;
  const [from, to] = [Math.max(scales.x.min, scales.y.min), Math.min(scales.x.max, scales.y.max)];
  if (from >= to) return;
  ctx.strokeStyle = tones.text;
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(plot.valToPos(from, 'x', true), plot.valToPos(from, 'y', true));
  ctx.lineTo(plot.valToPos(to, 'x', true), plot.valToPos(to, 'y', true));
  ctx.stroke();
  ctx.setLineDash([]);
}
