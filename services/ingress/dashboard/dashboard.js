/** The dashboard: reads the public HTTP interface every second. Text goes in by textContent, never as markup. */

const POLL_MS = 1000;
const HISTORY = 60;
const byId = (id) => document.getElementById(id);

let apiKey = sessionStorage.getItem('sluice-key') ?? '';
const rates = [];
const waitings = [];
/** Counters of the last minute, oldest first, for means and rates. */
const samples = [];

const get = async (path) => {
  const response = await fetch(path, { headers: apiKey ? { authorization: `Bearer ${apiKey}` } : {} });
  if (response.status === 401 || response.status === 403) {
    byId('key').hidden = false;
    throw new Error('an API key is needed');
  }
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response;
};

/** Sums of the Prometheus samples whose name is `name`. */
const total = (text, name) => {
  let sum = 0;
  for (const line of text.split('\n')) {
    if (line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      sum += Number(line.slice(line.lastIndexOf(' ') + 1)) || 0;
  }
  return sum;
};

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const bytes = (n) => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n.toFixed(n < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
};
const age = (ms) => (ms === null ? '–' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

const line = (id, values) => {
  const top = Math.max(1, ...values);
  const path = values
    .map((v, i) => `${i === 0 ? 'M' : 'L'}${(i / (HISTORY - 1)) * 240} ${46 - (v / top) * 42}`)
    .join('');
  const element = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  element.setAttribute('d', path);
  byId(id).replaceChildren(element);
};

const cell = (content, className = '') => {
  const td = document.createElement('td');
  td.className = className;
  if (content instanceof Node) td.append(content);
  else td.textContent = String(content);
  return td;
};
const tag = (name, text, className = '') =>
  Object.assign(document.createElement(name), { textContent: text, className });
const row = (...cells) => {
  const tr = document.createElement('tr');
  tr.append(...cells);
  return tr;
};

const functionRows = (f) => {
  const current = f.replicas.find((r) => r.version === f.version) ?? {
    ready: 0,
    starting: 0,
    failed: 0,
    reason: null,
  };
  const cannotStart = current.reason && current.starting === 0;
  const state = f.paused ? 'paused' : cannotStart ? 'failed' : current.ready > 0 ? 'ready' : 'starting';
  const { max_batching_size: size, max_buffer_duration: duration } = f.spec;
  const batch = size === null ? 'as they come' : `${number.format(size)} rows, ${duration} ms`;
  const rows = [
    row(
      cell(f.name),
      cell(tag('code', f.version)),
      cell(`${current.ready} ready${current.starting ? `, ${current.starting} starting` : ''}`),
      cell(number.format(f.queue.waiting_rows), 'n'),
      cell(number.format(f.queue.sealed_rows), 'n'),
      cell(age(f.queue.oldest_ms), 'n'),
      cell(batch),
      cell(tag('span', state, `pill ${state}`)),
    ),
  ];
  if (current.reason) {
    const td = cell(current.reason, 'reason');
    td.colSpan = 8;
    rows.push(row(td));
  }
  return rows;
};

/** The sum of what the replicas of a group tell; null where none tells it. */
const sumOf = (details, member) => {
  const told = details.map((one) => one[member]).filter((value) => value !== null && value !== undefined);
  return told.length === 0 ? null : told.reduce((sum, value) => sum + value, 0);
};

const groupRows = (g) => {
  const { ready, starting, failed, details } = g.replicas;
  const told = [
    [ready, 'ready'],
    [starting, 'starting'],
    [failed, 'failed'],
  ].filter(([count]) => count > 0);
  const [cpu, memory] = [sumOf(details, 'cpu_percent'), sumOf(details, 'memory_bytes')];
  const { min_replicas: min, max_replicas: max } = g.scaling;
  const event = g.events.at(-1);
  const rows = [
    row(
      cell(g.name),
      cell(`${g.model} ${g.version}${g.update ? ` → ${g.update.version}` : ''}`),
      cell(g.backend),
      cell(told.map(([count, text]) => `${count} ${text}`).join(', ') || 'none'),
      cell(min === max ? min : `${min} to ${max}`, 'n'),
      cell(number.format(sumOf(details, 'running_rows') ?? 0), 'n'),
      cell(cpu === null ? '–' : `${cpu.toFixed(0)} %`, 'n'),
      cell(memory === null ? '–' : bytes(memory), 'n'),
      cell(event ? `${event.kind.replaceAll('_', ' ')}, ${new Date(event.at).toLocaleTimeString()}` : '–'),
      cell(tag('span', g.state, `pill ${g.state}`)),
    ),
  ];
  const reason = g.reason ?? g.update?.reason;
  if (reason) {
    const td = cell(reason, 'reason');
    td.colSpan = 10;
    rows.push(row(td));
  }
  return rows;
};

const callRow = (c) => {
  const done = c.rows === 0 ? 1 : (c.rows - c.counts.unfinished) / c.rows;
  const progress = Object.assign(document.createElement('progress'), {
    max: 1,
    value: done,
    title: `${Math.round(done * 100)} %`,
  });
  return row(
    cell(tag('code', c.call_id)),
    cell(c.function),
    cell(tag('span', c.status, `pill ${c.status}`)),
    cell(progress),
    cell(number.format(c.rows), 'n'),
    cell(number.format(c.counts.failed), 'n'),
    cell(c.queue_ms === null ? '–' : c.queue_ms.toFixed(1), 'n'),
    cell(c.handler_ms.toFixed(1), 'n'),
    cell(new Date(c.arrived_at).toLocaleTimeString()),
  );
};

const mean = (first, last, name) => {
  const count = last[`${name}_count`] - first[`${name}_count`];
  return count > 0 ? (last[`${name}_sum`] - first[`${name}_sum`]) / count : null;
};

const showFigures = (text) => {
  const sample = { at: performance.now(), ended: total(text, 'sluice_rows_ended') };
  for (const name of ['sluice_batch_fill_ratio', 'sluice_handler_ms']) {
    for (const part of ['count', 'sum']) sample[`${name}_${part}`] = total(text, `${name}_${part}`);
  }
  const before = samples.at(-1);
  samples.push(sample);
  if (samples.length > HISTORY) samples.shift();
  if (before) {
    rates.push(Math.max(0, (sample.ended - before.ended) / ((sample.at - before.at) / 1000)));
    if (rates.length > HISTORY) rates.shift();
    byId('rate').textContent = `${number.format(rates.at(-1))}/s`;
    line('rate-line', rates);
  }
  const fill = mean(samples[0], sample, 'sluice_batch_fill_ratio');
  const handler = mean(samples[0], sample, 'sluice_handler_ms');
  byId('fill').textContent = fill === null ? '–' : `${(fill * 100).toFixed(0)} %`;
  byId('handler').textContent = handler === null ? '–' : `${handler.toFixed(1)} ms`;
};

const GROUPS_PAGE = 100;
const allGroups = async () => {
  const groups = [];
  for (;;) {
    const after = groups.length === 0 ? '' : `&after=${encodeURIComponent(groups.at(-1).name)}`;
    const answer = await get(`/v1/scaling-groups?limit=${GROUPS_PAGE}${after}`);
    const { scaling_groups: page } = await answer.json();
    groups.push(...page);
    if (page.length < GROUPS_PAGE) return groups;
  }
};

const refresh = async () => {
  const [server, functions, groups, calls, text] = await Promise.all([
    get('/v1/server').then((r) => r.json()),
    get('/v1/functions').then((r) => r.json()),
    allGroups(),
    get('/v1/calls?limit=15').then((r) => r.json()),
    get('/metrics').then((r) => r.text()),
  ]);
  byId('server').textContent = `${server.version} · ${server.store} store · durability ${server.durability}`;
  byId('disk').textContent = bytes(server.usage.database_bytes + server.usage.segment_bytes);
  byId('disk-limit').textContent = `of ${bytes(server.usage.limit_bytes)}`;
  byId('functions').replaceChildren(...functions.functions.flatMap(functionRows));
  byId('groups-section').hidden = groups.length === 0;
  byId('groups').replaceChildren(...groups.flatMap(groupRows));
  byId('calls').replaceChildren(...calls.calls.map(callRow));
  const waiting = functions.functions.reduce((sum, f) => sum + f.queue.waiting_rows, 0);
  waitings.push(waiting);
  if (waitings.length > HISTORY) waitings.shift();
  byId('waiting').textContent = number.format(waiting);
  line('waiting-line', waitings);
  showFigures(text);
};

const setState = (text, className) => {
  byId('state').textContent = text;
  byId('state').className = `pill ${className}`;
};

const loop = async () => {
  try {
    await refresh();
    setState('live', 'ready');
  } catch (error) {
    setState(error.message, 'failed');
  }
  setTimeout(loop, document.hidden ? POLL_MS * 5 : POLL_MS);
};

byId('key').addEventListener('submit', (event) => {
  event.preventDefault();
  apiKey = byId('key-value').value.trim();
  sessionStorage.setItem('sluice-key', apiKey);
  byId('key').hidden = true;
});

loop();
