// Colours that most colour-blind people tell apart (Okabe and Ito 2008), and what tells series apart without them.
const PALETTE = ['blue', 'vermilion', 'green', 'purple', 'orange', 'sky', 'ink', 'gold'];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 2]];
const SHAPES = ['circle', 'square', 'triangle', 'diamond', 'cross'];

// What always means the same has always the same colour.
const MEANINGS = {
  counted: 'green', late: 'orange', dropped: 'vermilion', cancelled: 'purple',
  download: 'sky', training: 'blue', upload: 'gold', wait: 'faint',
};

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function seriesColour(index, meaning) {
  return colour(MEANINGS[meaning] ?? PALETTE[index % PALETTE.length]);
}

// A fill that can be told from others in grey: plain, then lines of other directions.
function pattern(index, tone) {
  if (index % 4 === 0) return tone;
  const size = 8 * devicePixelRatio;
  const tile = element('canvas', { width: size, height: size });
  const draw = tile.getContext('2d');
  // On paper, not on glass: what stands behind a bar must not shine through it.
  draw.fillStyle = colour('paper');
  draw.fillRect(0, 0, size, size);
  draw.globalAlpha = 0.4;
  draw.fillStyle = tone;
  draw.fillRect(0, 0, size, size);
  draw.globalAlpha = 1;
  draw.strokeStyle = tone;
  draw.lineWidth = 2.5 * devicePixelRatio;
  draw.beginPath();
  for (const shift of [-size, 0, size]) {
    if (index % 4 !== 2) { draw.moveTo(shift, size); draw.lineTo(shift + size, 0); }
    if (index % 4 !== 1) { draw.moveTo(shift, 0); draw.lineTo(shift + size, size); }
  }
  draw.stroke();
  return draw.createPattern(tile, 'repeat');
}

// A mark at a place of a canvas, in pixels.
function mark(draw, shape, x, y, size) {
  draw.beginPath();
  switch (shape) {
    case 'square': draw.rect(x - size, y - size, 2 * size, 2 * size); break;
    case 'triangle':
      draw.moveTo(x, y - size * 1.2); draw.lineTo(x + size * 1.1, y + size); draw.lineTo(x - size * 1.1, y + size); draw.closePath();
      break;
    case 'diamond':
      draw.moveTo(x, y - size * 1.3); draw.lineTo(x + size * 1.3, y); draw.lineTo(x, y + size * 1.3); draw.lineTo(x - size * 1.3, y);
      draw.closePath();
      break;
    case 'cross':
      draw.moveTo(x - size, y - size); draw.lineTo(x + size, y + size); draw.moveTo(x + size, y - size); draw.lineTo(x - size, y + size);
      break;
    default: draw.arc(x, y, size, 0, 2 * Math.PI);
  }
}

// A small picture of a series for its legend; `repaint` follows a change of colours.
function swatch(paint) {
  const ratio = devicePixelRatio;
  const canvas = element('canvas', { width: 28 * ratio, height: 14 * ratio, class: 'swatch', 'aria-hidden': 'true' });
  const draw = canvas.getContext('2d');
  draw.scale(ratio, ratio);
  canvas.repaint = () => { draw.clearRect(0, 0, 28, 14); paint(draw, 28, 14); };
  canvas.repaint();
  return canvas;
}
