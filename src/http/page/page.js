// The dashboard: fetches the engine's figures and shows them. All external data, above all camera
// names, is inserted as text, never as markup.
'use strict';

const PERIOD_MS = 2000; // between two rounds of requests
const HIDDEN_MS = 30000; // the same while the page is hidden
const RETRY_MAX_MS = 15000;
const ANSWER_MS = 8000; // longest wait for an answer
const HISTORY_MAX = 300; // points of the charts, as many as the engine keeps
const HISTORY_SECONDS = 300;
const ROWS_SHOWN = 60; // cameras listed before "show all"
const LATENCY_LIMIT_MS = 100;
const STAGES = ['read', 'queue_wait', 'decode', 'analyse', 'encode', 'commit'];

const by = (id) => document.getElementById(id);

// --- words and numbers ---

const whole = (value) => value.toLocaleString('en-US', { maximumFractionDigits: 0 });
const digits = (value, most) => value.toLocaleString('en-US', { maximumFractionDigits: most });

function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${digits(value, unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 1) return seconds > 0 ? `${whole(seconds * 1000)} ms` : '0 s';
  if (seconds < 90) return `${digits(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${whole(seconds / 60)} min`;
  if (seconds < 172800) return `${digits(seconds / 3600, 1)} h`;
  return `${whole(seconds / 86400)} days`;
}

const FORMATS = {
  whole,
  bytes,
  seconds: duration,
  rate: (value) => digits(value, value < 100 ? 1 : 0),
  ms: (value) => digits(value, value < 10 ? 2 : value < 100 ? 1 : 0),
  measured: (value) => (value > 0 ? FORMATS.ms(value) : '–'),
  percent: (value) => digits(value * 100, value < 0.1 ? 1 : 0),
};

function clock(unixSeconds) {
  const time = new Date(unixSeconds * 1000);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

// --- the page ---

/** External text with control, text-direction and invisible characters replaced. */
function clean(text) {
  return typeof text === 'string' ? text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?') : text;
}

/** Sets a text only if it changed, so that screen readers do not repeat it. */
function say(element, text) {
  const shown = clean(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/** An element with a class, a text, and children. */
function make(name, className = '', ...content) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...content.map(clean));
  return element;
}

/** A table cell with its column label, for narrow screens. */
function cell(label, className, ...content) {
  const element = make('td', className, ...content);
  if (label) element.dataset.label = label;
  return element;
}

function meter(share, level) {
  const bar = make('i');
  bar.style.width = `${Math.round(100 * Math.min(1, Math.max(0, share)))}%`;
  const frame = make('span', `meter ${level}`, bar);
  frame.setAttribute('aria-hidden', 'true');
  return frame;
}

function pick(object, path) {
  return path.split('.').reduce((value, key) => (value == null ? undefined : value[key]), object);
}

function level(element, name) {
  element.classList.remove('good', 'warn', 'bad');
  if (name) element.classList.add(name);
}

// --- requests ---

class Refused extends Error {}

/** The engine has no figures yet. */
class NotReady extends Error {}

let token = sessionStorage.getItem('framepress-token') || '';

async function ask(path, extra = {}) {
  const headers = { ...extra };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, {
    headers,
    cache: 'no-store',
    credentials: 'omit',
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  if (answer.status === 401) throw new Refused();
  return answer;
}

async function json(path) {
  const answer = await ask(path);
  if (answer.status === 503) throw new NotReady((await answer.json()).error);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** Asks the user for the token; resolves when the dialog closes. */
function askForToken() {
  return new Promise((resolve) => {
    const dialog = by('ask');
    say(by('ask-wrong'), token ? 'The engine does not accept this token.' : '');
    by('ask-token').value = '';
    by('ask-form').onsubmit = (event) => {
      event.preventDefault();
      token = by('ask-token').value.trim();
      sessionStorage.setItem('framepress-token', token);
      dialog.close();
    };
    // If the Escape key closes it, it opens again in the next round.
    dialog.addEventListener('close', () => resolve(), { once: true });
    if (!dialog.open) dialog.showModal();
  });
}

// --- state at a glance ---

let lastHeard = 0;

function status(state, word, detail) {
  document.body.dataset.state = state;
  say(by('status-word'), word);
  say(by('status-detail'), detail);
  document.title = state === 'good' ? 'Framepress' : `${word} – Framepress`;
}

function judge(figures) {
  const recent = figures.performance_metrics.recent.latency_ms;
  const output = figures.queue_metrics.output;
  const full = output.blocks_when_full ? output.depth / output.limit : 0;
  const ratio = figures.serialization_metrics.avg_compression_ratio;
  const redis = figures.redis;
  const memory = redis.memory_limit_bytes ? redis.memory_bytes / redis.memory_limit_bytes : 0;
  level(by('tile-latency'), recent.p99 > LATENCY_LIMIT_MS ? 'warn' : 'good');
  level(by('tile-ratio'), ratio > 0.3 && figures.serialization_metrics.compression_enabled ? 'warn' : 'good');
  const method = figures.effort.webp_method;
  say(by('effort'), method > 0 ? `, WebP method ${method}` : '');
  level(by('tile-refused'), figures.performance_metrics.frames_rejected > 0 ? 'warn' : 'good');
  level(by('tile-memory'), memory > 0.9 ? 'bad' : memory > 0.75 ? 'warn' : 'good');
  level(by('tile-waiting'), figures.queue_metrics.input.oldest_pending_seconds > 30 ? 'warn' : 'good');

  if (!figures.health.ready) return status('bad', 'Not ready', figures.health.reason);
  if (memory > 0.9) return status('bad', 'Redis is almost full', `${whole(100 * memory)} % of maxmemory`);
  if (recent.p99 > LATENCY_LIMIT_MS) return status('warn', 'Slow', `p99 is ${FORMATS.ms(recent.p99)} ms`);
  if (full > 0.9) return status('warn', 'Output almost full', `${whole(100 * full)} % of its limit`);
  if (figures.active_streams === 0) return status('good', 'Healthy', 'and idle: no camera is sending');
  return status('good', 'Healthy', '');
}

function showFigures(figures) {
  for (const element of document.querySelectorAll('[data-field]')) {
    const value = pick(figures, element.dataset.field);
    const format = FORMATS[element.dataset.format];
    say(element, value == null ? '–' : format ? format(value) : String(value));
  }
  say(by('uptime'), duration(figures.uptime_seconds));
  say(by('updated'), new Date().toLocaleTimeString());
  const limit = figures.redis.memory_limit_bytes;
  const { ring_frames: frames, ring_bytes: past } = figures.counters;
  const rings = frames > 0 ? `, ${bytes(past)} past it` : '';
  say(by('memory-limit'), (limit ? `of ${bytes(limit)}` : 'without a limit') + rings);
  const balanced = figures.conservation.balanced;
  say(by('balanced'), balanced ? 'the sum holds' : 'the sum does not hold');
  level(by('balanced'), balanced ? 'good' : 'bad');
  showShards(figures.shards);
  showRings(figures.rings);
  showStages(figures.performance_metrics.recent.stages_mean_ms);
  showQueues(figures.queue_metrics);
  judge(figures);
}

// The tooltip lists the engine that holds each shard.
function showShards(shards) {
  const element = by('shards');
  if (!shards || shards.assignment !== 'exclusive') {
    say(element, 'shared');
    return;
  }
  const free = shards.holders.filter((holder) => holder === null).length;
  const all = `${shards.held} of ${shards.holders.length}`;
  say(element, free ? `${all}, ${free} without a holder` : all);
  const lines = shards.holders.map((holder, shard) => `${shard}: ${holder ?? 'none'}`);
  element.title = lines.join('\n');
}

// The tooltip lists the rings.
function showRings(rings) {
  const element = by('rings');
  if (!rings || rings.length === 0) {
    say(element, 'none');
    element.title = '';
    return;
  }
  const sum = (of) => rings.reduce((total, ring) => total + of(ring), 0);
  const room = sum((ring) => ring.slots * ring.slot_bytes);
  const lost = sum((ring) => ring.overwritten);
  const all = `${rings.length} with ${bytes(room)}`;
  say(element, lost ? `${all}, ${whole(lost)} overwritten` : all);
  const lines = rings.map((ring) => `${ring.name}: ${ring.slots} slots of ${bytes(ring.slot_bytes)}, `
    + `${whole(ring.waiting)} waiting; ${whole(ring.frames)} frames read, ${whole(ring.overwritten)} overwritten`);
  element.title = lines.join('\n');
}

function showStages(means) {
  const total = STAGES.reduce((sum, stage) => sum + means[stage], 0);
  const bar = by('stagebar');
  const list = by('stages');
  if (!list.children.length) {
    STAGES.forEach((stage, index) => {
      bar.append(make('span', `s${index}`));
      list.append(make('div', `s${index}`, make('dt', '', stage.replace('_', ' ')), make('dd')));
    });
  }
  STAGES.forEach((stage, index) => {
    const share = total > 0 ? means[stage] / total : 0;
    bar.children[index].hidden = share === 0;
    bar.children[index].style.flex = `${share} 1 0`;
    const text = total > 0 ? `${FORMATS.ms(means[stage])} ms` : '–';
    say(list.children[index].lastChild, text);
  });
}

function showQueues(queues) {
  for (const row of document.querySelectorAll('[data-queue]')) {
    const queue = queues[row.dataset.queue];
    const own = row.dataset.queue === 'input';
    const share = queue.limit ? queue.depth / queue.limit : 0;
    // A stream that trims itself is normally full; that is no problem.
    const urgent = queue.blocks_when_full;
    const of = queue.limit
      ? [
        meter(share, urgent && share > 0.9 ? 'bad' : urgent && share > 0.75 ? 'warn' : ''),
        `${digits(100 * share, 0)} %`,
        make('span', 'soft', share > 0.9 && !urgent ? ' the oldest make room' : ''),
      ]
      : ['–'];
    row.replaceChildren(
      row.firstElementChild,
      cell('Entries', 'n', whole(queue.depth)),
      cell('Of the limit', 'broad', ...of),
      ...(own
        ? [
          cell('Not yet read', 'n', queue.lag == null ? '–' : whole(queue.lag)),
          cell('Pending', 'n', whole(queue.pending_count)),
          cell('Consumers', 'n', whole(queue.consumer_count)),
        ]
        : [1, 2, 3].map(() => cell('', 'n blank', '–'))),
      cell('Memory', 'n', bytes(queue.memory_usage_bytes)),
    );
  }
}

// --- charts ---

let points = [];

function svg(name, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** A round number of at least `value`, for the end of an axis. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** A chart of `series` over time, 0..1000 by 0..100 inside. */
function chart(id, readout, series, { limit, unit, format }) {
  const figure = by(id);
  const newest = points.length ? points[points.length - 1].time : Date.now() / 1000;
  const seen = points.filter((point) => newest - point.time <= HISTORY_SECONDS);
  const values = seen.flatMap((point) => series.map(({ key }) => point[key] ?? 0));
  const largest = Math.max(...values, 0);
  const top = ceiling(Math.max(largest, limit && largest > limit * 0.5 ? limit * 1.05 : 0, 1));
  const x = (time) => 1000 * (1 - (newest - time) / HISTORY_SECONDS);
  const y = (value) => 100 * (1 - value / top);

  const drawing = svg('svg', { viewBox: '0 0 1000 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  for (const share of [0, 0.5, 1]) {
    drawing.append(svg('line', { class: 'grid', x1: 0, x2: 1000, y1: 100 * share, y2: 100 * share }));
  }
  if (limit && limit < top) {
    drawing.append(svg('line', { class: 'limit', x1: 0, x2: 1000, y1: y(limit), y2: y(limit) }));
  }
  for (const { key, name, filled } of series) {
    // Leave a gap where there are no measurements.
    const pieces = [];
    let last = null;
    for (const point of seen) {
      if (point[key] == null) {
        last = null;
        continue;
      }
      if (last === null || point.time - last > 10) pieces.push([]);
      pieces[pieces.length - 1].push([x(point.time), y(point[key])]);
      last = point.time;
    }
    for (const piece of pieces) {
      const line = `M${piece.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(2)}`).join('L')}`;
      if (filled) {
        const ends = `L${piece[piece.length - 1][0].toFixed(1)} 100L${piece[0][0].toFixed(1)} 100Z`;
        drawing.append(svg('path', { class: `area ${name}`, d: line + ends }));
      }
      drawing.append(svg('path', { class: `curve ${name}`, d: line }));
    }
  }
  const labels = [[0, top], [0.5, top / 2], [1, 0]].map(([share, value]) => {
    const tick = make('span', 'tick', format(value));
    tick.style.top = `${share * (figure.clientHeight - 17)}px`;
    return tick;
  });
  const parts = [drawing, ...labels, make('span', 'when first', '5 min ago'), make('span', 'when last', 'now')];
  if (!seen.some((point) => series.some(({ key }) => point[key] != null))) {
    parts.push(make('span', 'nodata', 'no frames in the last five minutes'));
  }
  figure.replaceChildren(...parts);

  const at = (point) => series.map(({ key, label }) =>
    `${label} ${point[key] == null ? '–' : `${format(point[key])} ${unit}`}`).join(', ');
  const tell = (point, when) => say(by(readout), point ? `${when}${at(point)}` : '');
  figure.onpointermove = (event) => {
    const box = drawing.getBoundingClientRect();
    const time = newest - HISTORY_SECONDS * (1 - (event.clientX - box.left) / box.width);
    const near = seen.reduce((best, point) =>
      !best || Math.abs(point.time - time) < Math.abs(best.time - time) ? point : best, null);
    tell(near, near ? `${clock(near.time)}: ` : '');
  };
  figure.onpointerleave = () => tell(seen[seen.length - 1], '');
  if (!figure.matches(':hover')) tell(seen[seen.length - 1], '');
}

function showCharts() {
  chart('chart-latency', 'read-latency', [
    { key: 'p99', name: 'p99', label: 'p99', filled: true },
    { key: 'p50', name: 'p50', label: 'p50' },
  ], { limit: LATENCY_LIMIT_MS, unit: 'ms', format: FORMATS.ms });
  chart('chart-rate', 'read-rate', [
    { key: 'fps', name: 'rate', label: '', filled: true },
  ], { unit: 'frames/s', format: FORMATS.rate });
}

// --- cameras ---

/** By camera: its row, and its picture once there is one. */
const rows = new Map();
let cameras = [];
let showAll = false;

const CONGESTION = { free_flow: 'good', low: 'good', medium: 'warn', high: 'bad' };

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const row = rows.get(target.dataset.camera);
    if (row) row.visible = isIntersecting;
  }
}, { rootMargin: '80px' });

function rowOf(id) {
  const known = rows.get(id);
  if (known) return known;
  const shot = make('button', 'shot', make('span', 'none', 'no picture'));
  shot.type = 'button';
  shot.disabled = true;
  shot.setAttribute('aria-label', `Latest picture of ${clean(id) || 'the camera without a name'}`);
  shot.onclick = () => view(id);
  const cells = {
    state: cell('', 'broad'),
    frames: cell('Frames', 'n'),
    damaged: cell('Damaged', 'n'),
    refused: cell('Refused', 'n'),
    dropped: cell('Dropped', 'n'),
    quality: cell('Quality', 'broad late'),
    traffic: cell('', 'broad late'),
    took: cell('Took', 'n'),
  };
  const name = make('th', '', id || '(no name)');
  name.scope = 'row';
  const element = make('tr', '', cell('', 'pic', shot), name, ...Object.values(cells));
  element.dataset.camera = id;
  const row = { element, cells, shot, visible: false, url: null, tag: null };
  rows.set(id, row);
  watcher.observe(element);
  return row;
}

function forget(id) {
  const row = rows.get(id);
  if (row.url) URL.revokeObjectURL(row.url);
  watcher.unobserve(row.element);
  row.element.remove();
  rows.delete(id);
}

/** The state of a configured camera in `ingest`. */
function feedOf(told) {
  if (!told) return [];
  const since = told.since ? ` since ${clock(told.since)}` : '';
  const restarts = told.restarts ? `, ${whole(told.restarts)} restarts` : '';
  const error = told.last_error && told.state !== 'live' ? `: ${told.last_error}` : '';
  const rate = told.fps ? `, ${digits(told.fps, 1)} frames/s` : '';
  return [
    ' ',
    make('span', `chip ${told.state === 'live' ? 'good' : 'warn'}`, `source ${told.state}`),
    ' ',
    make('span', 'soft', `${since}${rate}${restarts}${error}`),
  ];
}

function showCameras() {
  const wanted = by('find').value.trim().toLowerCase();
  const found = cameras.filter(({ camera_id: id }) => id.toLowerCase().includes(wanted));
  const shown = showAll ? found : found.slice(0, ROWS_SHOWN);
  const ids = new Set(shown.map(({ camera_id: id }) => id));
  for (const id of [...rows.keys()]) if (!ids.has(id)) forget(id);
  const body = by('cameras');
  shown.forEach((camera, index) => {
    const row = rowOf(camera.camera_id);
    if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] ?? null);
    const { cells } = row;
    const active = camera.status === 'active';
    const ago = camera.last_frame_time > 0 ? `last ${clock(camera.last_frame_time)}` : 'no result yet';
    cells.state.replaceChildren(
      make('span', `chip ${active ? 'good' : ''}`, camera.status),
      ...(active ? [] : [' ', make('span', 'soft', ago)]),
      ...feedOf(camera.ingest),
    );
    say(cells.frames, whole(camera.frames_processed));
    say(cells.damaged, whole(camera.frames_damaged));
    say(cells.refused, whole(camera.frames_rejected));
    say(cells.dropped, whole(camera.frames_dropped));
    if (camera.frames_processed === 0) {
      for (const empty of [cells.quality, cells.traffic, cells.took]) say(empty, '–');
      return;
    }
    const quality = camera.quality_score;
    cells.quality.replaceChildren(
      meter(quality, quality < 0.3 ? 'bad' : quality < 0.5 ? 'warn' : ''),
      quality.toFixed(2),
    );
    const congestion = camera.congestion_level;
    cells.traffic.replaceChildren(
      make('span', `chip ${CONGESTION[congestion] ?? ''}`, congestion.replace('_', ' ')),
      make('span', 'soft', ` ${digits(100 * camera.vehicle_density, 0)} % covered`),
    );
    say(cells.took, `${FORMATS.ms(camera.processing_time_ms)} ms`);
  });
  say(by('camera-count'), cameras.length ? whole(cameras.length) : '');
  const none = by('no-cameras');
  none.hidden = found.length > 0;
  say(none, cameras.length ? 'No camera has such a name.' : 'No camera has sent a frame yet.');
  const more = by('more-cameras');
  more.hidden = showAll || found.length <= ROWS_SHOWN;
  say(more, `Show all ${whole(found.length)}`);
}

/** Loads pictures of the visible cameras, a few at a time. */
async function showPictures() {
  const queue = [...rows].filter(([, row]) => row.visible && row.element.isConnected);
  const take = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [id, row] = next;
      const path = `/api/v1/cameras/${encodeURIComponent(id)}/latest.jpg?missing=204`;
      try {
        const answer = await ask(path, row.tag ? { 'If-None-Match': row.tag } : {});
        if (answer.status !== 200) continue;
        const url = URL.createObjectURL(await answer.blob());
        const image = make('img');
        image.alt = '';
        image.src = url;
        row.shot.replaceChildren(image);
        row.shot.disabled = false;
        if (row.url) URL.revokeObjectURL(row.url);
        row.url = url;
        row.tag = answer.headers.get('ETag');
        if (by('viewer').open && by('viewer').dataset.camera === id) by('viewer-image').src = url;
      } catch {
        return; // the next round reports the problem
      }
    }
  };
  await Promise.all([take(), take(), take()]);
}

function view(id) {
  const row = rows.get(id);
  if (!row || !row.url) return;
  const dialog = by('viewer');
  dialog.dataset.camera = id;
  say(by('viewer-name'), id || '(no name)');
  by('viewer-image').alt = `Latest picture of ${clean(id)}`;
  by('viewer-image').src = row.url;
  dialog.showModal();
}

// --- dead letters ---

function showLetters(letters, reasons) {
  say(by('letter-count'), letters.depth ? whole(letters.depth) : '');
  const told = Object.entries(reasons).filter(([, count]) => count > 0);
  say(by('letter-reasons'), told.map(([reason, count]) => `${reason} ${whole(count)}`).join(', '));
  by('no-letters').hidden = letters.latest.length > 0;
  by('letters').replaceChildren(...letters.latest.map((letter) => make('tr', '',
    cell('', 'soft', clock(letter.failed_at)),
    cell('', '', make('span', 'chip bad', letter.reason || 'unknown')),
    cell('', 'wide-cell', letter.detail, make('span', 'soft', letter.stage ? ` (${letter.stage})` : '')),
    cell('Camera', '', letter.camera_id || '–'),
    cell('Entry', 'mono', letter.original_id),
    cell('Size', 'n', bytes(letter.bytes)),
  )));
}

// --- the rounds ---

let failures = 0;
let rounds = 0;
let wake = null;

async function round() {
  const [figures, list] = await Promise.all([
    json('/api/v1/system/metrics'),
    json('/api/v1/cameras'),
  ]);
  if (rounds === 0 || failures > 0) {
    points = (await json('/api/v1/history')).points;
  } else {
    const now = Date.now() / 1000;
    const recent = figures.performance_metrics.recent.latency_ms;
    const input = figures.queue_metrics.input;
    points.push({
      time: now,
      fps: figures.performance_metrics.throughput_fps,
      p50: recent.p50 || null,
      p99: recent.p99 || null,
      waiting: input.lag ?? input.depth,
    });
    points = points.slice(-HISTORY_MAX);
  }
  showFigures(figures);
  showCharts();
  cameras = list.cameras;
  showCameras();
  if (rounds % 2 === 0 || failures > 0) {
    showLetters(await json('/api/v1/dead-letters'), figures.dead_letters_by_reason);
  }
  lastHeard = Date.now();
  failures = 0;
  rounds += 1;
  document.body.dataset.rounds = rounds;
  await showPictures();
}

function gone(error) {
  failures += 1;
  if (error instanceof NotReady) return status('bad', 'Not ready', error.message);
  const since = lastHeard ? `last heard ${duration((Date.now() - lastHeard) / 1000)} ago; the figures below are old` : 'nothing has been heard of it yet';
  status('gone', 'The engine does not answer', since);
}

async function main() {
  for (;;) {
    try {
      await round();
    } catch (error) {
      if (error instanceof Refused) {
        status('bad', 'A token is needed', '');
        await askForToken();
        continue;
      }
      gone(error);
    }
    const pause = failures > 0 ? Math.min(RETRY_MAX_MS, 1000 * 2 ** Math.min(failures, 5)) : PERIOD_MS;
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, document.hidden ? HIDDEN_MS : pause);
    });
  }
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && wake) wake();
});
by('find').addEventListener('input', showCameras);
by('more-cameras').addEventListener('click', () => {
  showAll = true;
  showCameras();
});
main();
