"use strict";
// Draws the cells, and tells of the one that is pointed at. Text goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, String.fromCharCode(47))), (c) => c.charCodeAt(0));

// Seven bits a byte, the lowest first; 0 is absent, n + 1 is n. Exact up to 2 ** 53.
function numbers(text) {
  const packed = bytes(text), out = new Float64Array(data.rows * data.columns);
  let cell = 0, value = 0, scale = 1;
  for (const byte of packed) {
    value += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) {
      out[cell] = value - 1;
      cell += 1;
      value = 0;
      scale = 1;
    }
  }
  return out;
}

const loads = numbers(data.loads);
const sums = data.sums === null ? null : numbers(data.sums);
const canvas = at("cells");
canvas.width = data.columns;
canvas.height = data.rows;
const context = canvas.getContext("2d");
const picture = context.createImageData(data.columns, data.rows);
bytes(data.levels).forEach((level, cell) => {
  for (let channel = 0; channel < 3; channel += 1) {
    picture.data[4 * cell + channel] = data.palette[3 * level + channel];
  }
  picture.data[4 * cell + 3] = level === 0 ? 0 : 255;
});
context.putImageData(picture, 0, 0);

const moment = (column) => new Date(data.first_ms + column * data.window_ms).toISOString();
at("from").textContent = moment(0);
at("until").textContent = moment(data.columns);
for (const [place, key] of data.cuts) {
  const line = document.createElement("div");
  line.className = "cut";
  line.style.top = 100 * place + "%";
  at("marks").append(line);
  const item = document.createElement("li");
  item.textContent = "cut at " + key;
  at("cuts").append(item);
}

let row = 0, column = 0;
function tell() {
  const cell = row * data.columns + column, load = loads[cell];
  const exact = (value) => value.toLocaleString("en-US");
  at("keys").textContent = data.spans[row][0] + " → " + data.spans[row][1];
  at("time").textContent = moment(column) + " to " + moment(column + 1);
  at("load").textContent =
    load < 0 ? "not measured" : sums === null ? exact(load) : exact(load) + " at the hottest, " + exact(sums[cell]) + " in all";
  at("route").textContent = String(data.routes[row]);
  const here = at("here").style;
  here.display = "block";
  here.left = (100 * column) / data.columns + "%";
  here.top = (100 * row) / data.rows + "%";
  here.width = 100 / data.columns + "%";
  here.height = 100 / data.rows + "%";
}
const within = (value, limit) => Math.min(Math.max(Math.floor(value), 0), limit - 1);
canvas.addEventListener("pointermove", (event) => {
  const box = canvas.getBoundingClientRect();
  column = within(((event.clientX - box.left) * data.columns) / box.width, data.columns);
  row = within(((event.clientY - box.top) * data.rows) / box.height, data.rows);
  tell();
});
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  row = within(row + step[0], data.rows);
  column = within(column + step[1], data.columns);
  tell();
});
