// The columns of the figures, as the page carries them: compressed JSON in base64.
async function unpack() {
  const text = document.getElementById('columns').textContent.trim();
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(stream).text());
}

// A figure with its columns by name; names are turned from places into texts as they are read.
class Figure {
  constructor(figure, prefix) {
    Object.assign(this, figure);
    this.key = `${prefix}-${figure.id}`;
    this.byName = new Map(figure.columns.map(column => [column.name, column]));
    const first = figure.columns[0].values;
    this.length = (first.numbers ?? first.names.rows).length;
  }

  column(name) { return this.byName.get(name); }

  has(name) { return this.byName.has(name); }

  // A value: a number, a text, or null.
  value(column, row) {
    const { numbers, names } = column.values;
    if (numbers) return numbers[row];
    const place = names.rows[row];
    return place === null ? null : names.texts[place];
  }

  numbers(name) { return this.column(name).values.numbers; }

  names(name) { return this.column(name).values.names; }

  // The figure as comma-separated values (RFC 4180), with the names of columns in the first line.
  csv() {
    const quoted = value => {
      const text = value === null ? '' : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [this.columns.map(column => quoted(column.name)).join(',')];
    for (let row = 0; row < this.length; row += 1) {
      lines.push(this.columns.map(column => quoted(this.value(column, row))).join(','));
    }
    return lines.join('\r\n') + '\r\n';
  }
}
