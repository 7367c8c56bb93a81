// Numbers as people read them, each in its unit.
const ABSENT = '–';

// At most `digits` significant digits, without trailing zeros.
function plain(value, digits = 5) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e15) return value.toExponential(2);
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  return Number(value.toPrecision(digits)).toLocaleString('en-US', { maximumFractionDigits: 8 });
}

// With a prefix of a thousand's power.
function prefixed(value, unit) {
  const prefixes = ['', 'k', 'M', 'G', 'T', 'P'];
  let place = 0;
  while (Math.abs(value) >= 1000 && place + 1 < prefixes.length) { value /= 1000; place += 1; }
  return `${plain(value, 4)} ${prefixes[place]}${unit}`;
}

// A span of virtual time: seconds, or hours, minutes and seconds.
function clock(seconds) {
  if (Math.abs(seconds) < 60) return `${plain(seconds, 4)} s`;
  // Seconds that have passed, as the sentences of the page count them.
  const whole = Math.floor(seconds);
  const two = number => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours < 48) return `${hours}:${two(minutes)}:${two(whole % 60)}`;
  return `${Math.floor(hours / 24)} d ${hours % 24}:${two(minutes)}`;
}

function format(value, unit) {
  if (value === null || value === undefined) return ABSENT;
  if (typeof value === 'string') return value;
  switch (unit) {
    case 's': return clock(value);
    case 'B': return prefixed(value, 'B');
    case 'J': return prefixed(value, 'J');
    case 'share': return `${plain(100 * value, 4)} %`;
    // A seed, a number of a task: which, not how many.
    case 'index': return String(value);
    default: return plain(value);
  }
}

// Units that values or titles say themselves.
const SILENT = new Set(['1', 's', 'B', 'J', 'share', 'index', 'name', 'rounds', 'tasks', 'clients', 'rows', 'updates', 'tokens']);

// The unit in brackets, where the values do not say it themselves.
function unitOf(unit) {
  return SILENT.has(unit) ? '' : ` [${unit}]`;
}

// Steps of an axis in seconds that read as times.
const CLOCK_STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
  3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 1728000, 4320000, 8640000, 31536000];

// Units of what comes in whole numbers, and the steps of an axis in them.
const WHOLE = new Set(['rounds', 'tasks', 'clients', 'rows', 'updates', 'versions', 'index']);
const WHOLE_STEPS = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map(digit => digit * 10 ** power)).flat();
