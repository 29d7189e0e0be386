// Paints levels, follows pointer and keys, asks the kernel what is exact.
// Text goes in as text, never as markup.
const PROTOCOL = 1;
const { ceil, floor, hypot, max, min, round } = Math;
const clamp = (value, low, high) => min(max(value, low), high);
const range = (n, f) => Array.from({ length: n }, (_, i) => f(i));
const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const TOP = 8;
const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-20, 0], PageDown: [20, 0], Home: [0, -1e6], End: [0, 1e6] };
const ACTIONS = { "+": "in", "=": "in", "-": "out", 0: "fit", Enter: "confirm", Escape: "clear" };

// A part is [name, tag, attributes, ...children].
function build(part, named) {
	if (typeof part === "string") return part;
	const [name, tag, given, ...kids] = part, made = document.createElement(tag);
	for (const each in given) made.setAttribute(each, given[each]);
	made.append(...kids.map((kid) => build(kid, named)));
	if (name) named[name] = made;
	return made;
}

const iso = (us) => new Date(us / 1000).toISOString();
const fill = (element, parts) => element.replaceChildren(...parts.map(build));

// A joined row i of n begins at i * rows / n, rounded down.
const rowIn = (tile, row) => floor(((row - tile.rows[0] + 1) * tile.down - 1) / (tile.rows[1] - tile.rows[0]));
const columnIn = (tile, column) => floor((column - tile.columns[0]) / tile.factor);

const spread = (n, from, to, last, place) => range(n, (x) => {
	const step = (to - from) / n, low = clamp(floor(from + x * step + 1e-6), 0, last);
	return [low, clamp(ceil(from + (x + 1) * step - 1e-6) - 1, low, last)].map(place);
});

// Every pixel gets the hottest that it touches.
function pour(tile, view, width, height, size, luts, hues, out) {
	const across = spread(width, view[2], view[3], size[3] - 1, (c) => columnIn(tile, c));
	const down = spread(height, view[0], view[1], size[1] - 1, (r) => rowIn(tile, r));
	const { levels } = tile, from = across[0][0], until = across[width - 1][1] + 1;
	const line = new Uint8Array(tile.across), who = new Uint16Array(tile.across);
	down.forEach(([top, bottom], y) => {
		let p = y * width;
		if (y && top === down[y - 1][0] && bottom === down[y - 1][1]) return out.copyWithin(p, p - width, p);
		line.fill(0);
		for (let row = top; row <= bottom; row += 1) {
			const at = row * tile.across, hue = hues ? hues[row] % luts.length : 0;
			for (let c = from; c < until; c += 1) {
				if (levels[at + c] > line[c]) {
					line[c] = levels[at + c];
					who[c] = hue;
				}
			}
		}
		for (let x = 0; x < width; x += 1, p += 1) {
			let best = across[x][0];
			for (let c = best + 1; c <= across[x][1]; c += 1) if (line[c] > line[best]) best = c;
			out[p] = luts[who[best]][line[best]];
		}
	});
}

function lutOf(palette, power, hue) {
	const lut = new Uint32Array(256), bytes = bytesOf(lut);
	for (let level = 1; level < 256; level += 1) {
		const zero = level < 2, part = zero ? 0 : ((level - 2) / 253) ** power, at = zero ? 1 : 2 + round(253 * part);
		const colour = hue ? hue.map((each) => each * (zero ? 0.1 : 0.2 + 0.8 * part)) : palette.slice(3 * at, 3 * at + 3);
		bytes.set([...colour, 255], 4 * level);
	}
	return lut;
}

function render({ model, el }) {
	const ui = {}, root = build(model.get("_parts"), ui), { cells, over, plot, tip } = ui;
	const get = (name) => model.get(name), on = (target, name, f) => target.addEventListener(name, f, { passive: false });
	const guard = (f) => { try { f(); } catch { ui.said.textContent = "The kernel is gone: run the cell again."; } };
	const set = (values) => guard(() => { model.set(values); model.save_changes(); });
	const known = new Map(), pen = over.getContext("2d"), ink = cells.getContext("2d");
	let frame = get("_frame"), overview, tiles = [], view, luts, box = {}, image, stale = true;
	let hover, drag, pending, anchor, panning, due, kept, wanted, asked = 0, question, next;
	const css = getComputedStyle(root), theme = (name) => css.getPropertyValue("--wb-" + name);
	el.append(root);

	// places: a box of cells is [row, row end, column, column end]
	const whole = () => [0, frame.rows, 0, frame.columns];
	const scaleY = () => (view[1] - view[0]) / box.height, scaleX = () => (view[3] - view[2]) / box.width;
	const rowOf = (y) => view[0] + y * scaleY(), columnOf = (x) => view[2] + x * scaleX();
	const yOf = (row) => (row - view[0]) / scaleY(), xOf = (column) => (column - view[2]) / scaleX();
	const usOf = (column) => frame.first_us + column * frame.window_us, columnAt = (us) => (us - frame.first_us) / frame.window_us;
	const inside = ([x, y]) => overview && x >= 0 && x < box.width && y >= 0 && y < box.height;
	const place = ({ offsetX, offsetY }) => [offsetX - box.left, offsetY - TOP];
	const cell = (row, column) => [clamp(floor(row), 0, frame.rows - 1), clamp(floor(column), 0, frame.columns - 1)];
	const cellAt = ([x, y]) => cell(rowOf(y), columnOf(x));
	const spot = () => {
		const [a, b, c, d] = view, { row, column } = get("cursor") || {};
		return row >= a && row < b && column >= c && column < d ? [row, column] : cell((a + b) / 2, (c + d) / 2);
	};
	const covers = ({ rows, columns }) => rows[0] <= view[0] && rows[1] >= view[1] && columns[0] <= view[2] && columns[1] >= view[3];
	const tall = (tile) => (tile.rows[1] - tile.rows[0]) / tile.down, grain = (tile) => tall(tile) * tile.factor;
	const best = () => tiles.filter(covers).reduce((a, b) => (grain(b) < grain(a) ? b : a), overview);
	const label = (row) => { const tile = best(); return tile.labels[rowIn(tile, row)]; };
	// what lies under one pixel
	const under = (at, step, end) => [at, min(ceil(at + max(step, 1)), end)];

	// drawing
	const draw = () => { due ||= requestAnimationFrame(() => { due = 0; paint(); }); };
	const repaint = () => { stale = true; draw(); };
	function recolour() {
		const by = get("colour_by"), hues = by === "load" ? [0] : frame.hues;
		luts = hues.map((hue) => lutOf(frame.palette, 2 ** -ui.bright.value, hue));
		ui.scale.style.setProperty("--wb-ramp", range(14, (i) => `rgb(${bytesOf(luts[0].subarray(2 + round(19.4 * i))).slice(0, 3)})`));
		fill(ui.scale, frame.scale);
		ui.scale.hidden = by !== "load";
		fill(ui.chips, frame.chips[by]);
		repaint();
	}
	function measure() {
		const dpr = window.devicePixelRatio, width = plot.clientWidth, height = plot.clientHeight;
		if (width < 120 || !overview) return;
		pen.font = theme("code");
		const left = round(clamp(pen.measureText(frame.widest).width + 14, 40, width * 0.3));
		box = { left, width: width - left - 10, height: height - TOP - 26, dpr };
		for (const [canvas, x, w, h] of [[cells, left, box.width, box.height], [over, 0, width, height]]) {
			canvas.width = round(w * dpr);
			canvas.height = round(h * dpr);
			canvas.style = `left:${x}px;width:${w}px;height:${h}px`;
		}
		image = null;
		repaint();
		want();
	}
	function paint() {
		if (!overview || !box.width) return;
		if (stale) {
			const tile = best(), { width, height } = cells;
			image ||= ink.createImageData(width, height);
			pour(tile, view, width, height, whole(), luts, tile[get("colour_by")], new Uint32Array(image.data.buffer));
			ink.putImageData(image, 0, 0);
			stale = false;
			Object.assign(root.dataset, { source: tile.kind || "overview", series: frame.series, view, painted: -~root.dataset.painted });
		}
		marks();
	}
	function marks() {
		const brush = chosen(), cursor = get("cursor"), { left, width, height, dpr } = box;
		const stroke = (...inks) => inks.forEach(([lineWidth, strokeStyle]) => Object.assign(pen, { lineWidth, strokeStyle }).stroke());
		const line = (x, y, to_x, to_y) => { pen.moveTo(x, y); pen.lineTo(to_x, to_y); };
		pen.setTransform(dpr, 0, 0, dpr, left * dpr, TOP * dpr);
		pen.clearRect(-left, -TOP, over.width, over.height);
		axes();
		pen.save();
		pen.beginPath();
		pen.rect(0, 0, width, height);
		pen.clip();
		pen.beginPath();
		for (const [column, row, first, end] of frame.lineage) {
			line(xOf(column), yOf(first), xOf(column), yOf(end));
			line(xOf(column), yOf(row), width, yOf(row));
		}
		stroke([3, "#0008"], [1, "#fff"]);
		pen.beginPath();
		if (brush) {
			const x = xOf(brush[2]), y = yOf(brush[0]), w = xOf(brush[3]) - x, h = yOf(brush[1]) - y;
			pen.rect(0, 0, width, height);
			pen.rect(x, y, w, h);
			pen.fillStyle = "#0005";
			pen.fill("evenodd");
			pen.beginPath();
			pen.rect(x, y, w, h);
			pen.setLineDash(pending ? [5, 3] : []);
			stroke([1.5, "#fff"]);
			pen.setLineDash([]);
		}
		pen.beginPath();
		if (hover) {
			line(0, hover.y, width, hover.y);
			line(hover.x, 0, hover.x, height);
			stroke([1, "#fff9"]);
		}
		pen.beginPath();
		if (cursor) {
			pen.rect(xOf(cursor.column) - 1, yOf(cursor.row) - 1, max(1 / scaleX(), 7) + 2, max(1 / scaleY(), 7) + 2);
			stroke([4, "#000"], [2, "#fff"]);
		}
		pen.restore();
	}
	function axes() {
		const { left, width, height } = box, step = max(ceil(22 * scaleY()), 1);
		Object.assign(pen, { fillStyle: theme("soft"), strokeStyle: theme("line"), lineWidth: 1, font: theme("code"), textAlign: "right", textBaseline: "middle" });
		const room = floor((left - 10) / pen.measureText("0").width);
		for (let row = ceil(view[0] / step) * step; row < view[1]; row += step) {
			const y = yOf(row + (step === 1 ? 0.5 : 0)), text = label(row);
			if (y <= height) pen.fillText(text.length > room ? "…" + text.slice(1 - room) : text, -8, max(y, 5));
			pen.fillRect(-4, yOf(row), 3, 1);
		}
		Object.assign(pen, { font: theme("ui"), textAlign: "center", textBaseline: "top" });
		const least = scaleX() * frame.window_us * 84e-6, step_s = frame.steps_s.find((each) => each >= least) || ceil(least);
		let day = "";
		for (let s = ceil(usOf(view[2]) / 1e6 / step_s) * step_s; s * 1e6 <= usOf(view[3]); s += step_s) {
			const text = iso(s * 1e6), x = xOf(columnAt(s * 1e6)), clock = step_s < 86400 ? text.slice(11, step_s < 60 ? 19 : 16) : "";
			const shown = text.slice(0, 10) === day && clock ? clock : text.slice(5, 10) + " " + clock, edge = pen.measureText(shown).width / 2;
			day = text.slice(0, 10);
			pen.fillRect(x, height + 1, 1, 4);
			pen.fillText(shown, clamp(x, edge - 4, width - edge + 8), height + 8);
		}
		pen.strokeRect(-0.5, -0.5, width + 1, height + 1);
	}

	// view
	function look(to, keep = true) {
		view = whole();
		if (to) for (const a of [0, 2]) {
			const size = view[a + 1], length = clamp(to[a + 1] - to[a], min(2, size), size);
			view[a] = clamp(to[a], 0, size - length);
			view[a + 1] = view[a] + length;
		}
		leave();
		repaint();
		want();
		clearTimeout(kept);
		if (keep) kept = setTimeout(() => set({ view: String(view) === String(whole()) ? null : view }), 250);
	}
	const shift = ([a, b, c, d], rows, columns) => (rows || columns) && look([a + rows, b + rows, c + columns, d + columns]);
	function zoom(by, [r, c] = spot(), rows = true, columns = true) {
		const scale = (at, to, does) => to + (at - to) * (does ? by : 1);
		look(view.map((at, i) => (i < 2 ? scale(at, r, rows) : scale(at, c, columns))));
	}
	// Asks for a finer piece where the screen could show one.
	function want() {
		clearTimeout(wanted);
		if (overview && box.width) wanted = setTimeout(() => {
			if (!overview) return;
			const tile = best(), { width, height } = cells, rows = max(scaleY() / box.dpr, 1), columns = max(scaleX() / box.dpr, 1);
			if (tall(tile) <= rows * 1.01 && tile.factor <= ceil(columns)) return;
			const [a, b, c, d] = view, pad = (a, b, size) => [floor(max(a - (b - a) / 4, 0)), ceil(min(b + (b - a) / 4, size))];
			ask({ kind: "tile", rows: pad(a, b, frame.rows), columns: pad(c, d, frame.columns), rows_max: ceil(height * 1.5), columns_max: ceil(width * 1.5) });
		}, 60);
	}

	// kernel
	function ask(what) {
		asked += 1;
		guard(() => model.send({ ...what, id: asked, version: frame.version, series: frame.series }));
	}
	function told(content, buffers) {
		if (content.version !== frame.version || content.series !== frame.series) return;
		if (content.kind === "tile") {
			tiles = [{ ...content, levels: bytesOf(buffers[0]) }, ...tiles].slice(0, 6);
			repaint();
		} else if (content.id === question?.id) {
			if (content.lines && hover?.key === question.key) {
				show(content.lines, true);
				if (hover.keyed) ui.said.textContent = content.said;
			}
			question = null;
			if (next) inquire(next);
		}
	}
	// one question at a time; of those that wait, the newest
	function inquire(what) {
		if (question && Date.now() - question.at < 3000) { next = what; return; }
		next = null;
		ask({ kind: "exact", rows: what.rows, columns: what.columns });
		question = { key: what.key, at: Date.now(), id: asked };
	}

	// pointing
	function point(x, y, row, column, keyed) {
		const rows = under(row, scaleY(), frame.rows), columns = under(column, scaleX(), frame.columns), key = String([rows, columns]), was = hover?.key;
		hover = { x, y, key, keyed };
		if (key !== was) {
			show([["load", "…"], ["span", "from " + label(row)], ["time", iso(usOf(column))]], false);
			inquire({ key, rows, columns });
		}
		float();
		draw();
	}
	function show(lines, exact) {
		fill(tip, lines.map(([name, text]) => ["", "div", { "data-tell": name }, text]));
		tip.dataset.exact = exact;
		tip.hidden = false;
	}
	function float() {
		const { x, y } = hover, flip = (at, size) => (at < size / 2 ? "14px" : "calc(-100% - 14px)");
		tip.style = `left:${x + box.left}px;top:${y + TOP}px;translate:${flip(x, box.width)} ${flip(y, box.height)}`;
	}
	function leave() {
		hover = null;
		tip.hidden = true;
		draw();
	}

	// selection
	function chosen() {
		const brush = get("brush");
		return pending || (brush && [brush.row_first, brush.row_last + 1, columnAt(brush.start_us), columnAt(brush.end_us)]);
	}
	function commit(to) {
		pending = null;
		set({ brush: to && { row_first: to[0], row_last: to[1] - 1, start_us: usOf(to[2]), end_us: usOf(to[3]) } });
		draw();
	}
	const mark = ([row, column]) => set({ cursor: { row, column } });
	const between = (a, b) => [min(a[0], b[0]), max(a[0], b[0]) + 1, min(a[1], b[1]), max(a[1], b[1]) + 1];
	on(over, "pointerdown", (event) => {
		const at = place(event);
		if (!inside(at) || event.button > 1) return;
		event.preventDefault();
		over.focus({ preventScroll: true });
		over.setPointerCapture(event.pointerId);
		drag = { at, view, cell: cellAt(at), pans: panning || event.shiftKey || event.button };
	});
	on(over, "pointermove", (event) => {
		const at = place(event);
		if (!drag) return inside(at) ? point(...at, ...cellAt(at)) : leave();
		const x = drag.at[0] - at[0], y = drag.at[1] - at[1];
		drag.moved ||= hypot(x, y) > 3;
		if (!drag.moved) return;
		if (drag.pans) return shift(drag.view, y * scaleY(), x * scaleX());
		leave();
		pending = between(drag.cell, cellAt(at));
	});
	on(over, "pointerup", () => {
		if (drag && !drag.moved) {
			mark(drag.cell);
			point(...drag.at, ...drag.cell);
		} else if (drag && pending) commit(pending);
		drag = anchor = null;
	});
	on(over, "pointercancel", () => { drag = pending = null; });
	on(over, "pointerleave", () => drag || leave());
	on(over, "wheel", (event) => {
		// a page that scrolls by is not caught
		if (!overview || (document.activeElement !== over && !event.ctrlKey)) return;
		const [x, y] = place(event);
		event.preventDefault();
		zoom(Math.exp(clamp(event.deltaY || event.deltaX, -240, 240) * 0.002), [rowOf(y), columnOf(x)], !event.shiftKey, !event.altKey);
	});
	function move(rows, columns, selects) {
		const old = spot(), now = get("cursor") ? cell(old[0] + rows, old[1] + columns) : old;
		anchor = selects && (anchor || old);
		pending = selects && between(anchor, now);
		mark(now);
		const out = (at, low, high) => min(at - low, 0) + max(at + 1 - high, 0);
		shift(view, out(now[0], view[0], view[1]), out(now[1], view[2], view[3]));
		point(xOf(now[1] + 0.5), yOf(now[0] + 0.5), ...now, true);
	}
	const actions = {
		in: () => zoom(1 / 1.6), out: () => zoom(1.6), fit: () => look(null), clear: () => { anchor = null; commit(null); leave(); }, png: save,
		pan: () => { panning = !panning; ui.pan.ariaPressed = panning; },
		selection: () => { const [a, b, c, d] = chosen(); look([a - (b - a) / 9, b + (b - a) / 9, c - (d - c) / 9, d + (d - c) / 9]); },
		confirm: () => { anchor = null; commit(pending || between(spot(), spot())); },
	};
	on(root, "click", (event) => overview && actions[event.target.dataset.do]?.());
	on(over, "keydown", (event) => {
		if (!overview || event.ctrlKey || event.metaKey) return;
		const step = KEYS[event.key], action = ACTIONS[event.key];
		if (!step && !action) return;
		event.preventDefault();
		if (step) move(step[0] * max(ceil(scaleY()), 1), step[1] * max(ceil(scaleX()), 1), event.shiftKey);
		else actions[action]();
	});

	// table, picture
	function table() {
		const given = get("_table");
		if (!given) return;
		fill(ui.body, given.rows.map((row) => ["", "tr", {}, ...row.map((text, i) => ["", i ? "td" : "th", {}, text])]));
		for (const name of ["summary", "caption", "said"]) ui[name].textContent = given[name];
		root.dataset.table = given.of;
	}
	function save() {
		const { width, height } = over, sheet = build(["", "canvas", { width, height }]), to = sheet.getContext("2d"), at = [round(box.left * box.dpr), TOP * box.dpr];
		leave();
		paint();
		for (const [name, ...area] of [["back", 0, 0, width, height], ["absent", ...at, cells.width, cells.height]]) {
			to.fillStyle = theme(name);
			to.fillRect(...area);
		}
		to.drawImage(cells, ...at);
		to.drawImage(over, 0, 0);
		build(["", "a", { download: `heatmap-${frame.series}.png`, href: sheet.toDataURL() }]).click();
	}

	// state: it lives in the kernel, and survives a reload
	function take(now, levels) {
		const fresh = !overview || now.version !== frame.version;
		if (fresh) known.clear();
		frame = now;
		tiles = [];
		if (levels) known.set(now.series, [now, { ...now.overview, levels }]);
		overview = now.rows && now.columns ? known.get(now.series)[1] : null;
		ui.empty.hidden = overview;
		cells.hidden = over.hidden = !overview;
		for (const name of ["title", "sizes", "empty"]) ui[name].textContent = now.texts[name];
		over.ariaLabel = now.texts.label;
		if (fresh) fill(ui.choices, now.choices);
		choose();
		if (overview && (fresh || !view)) look(get("view"), false);
		recolour();
		measure();
	}
	const choose = () => { ui.choices.elements.series.value = get("series"); };
	function sync() {
		const now = get("_frame");
		if (now.protocol !== PROTOCOL) return root.replaceChildren("Page and kernel differ: restart the kernel.");
		take(now, bytesOf(get("_levels")));
	}
	function brushed() {
		const brush = get("brush");
		ui.selection.disabled = ui.clear.disabled = !brush;
		root.dataset.brush = JSON.stringify(brush);
		draw();
	}
	function adjust() {
		ui.bright.value = Math.log2(get("brightness"));
		ui.colour.value = get("colour_by");
		plot.style.height = get("height") + "px";
		recolour();
	}
	on(ui.choices, "change", ({ target: { value } }) => {
		set({ series: value });
		if (known.has(value)) take(known.get(value)[0]);
	});
	on(ui.bright, "input", recolour);
	on(ui.bright, "change", () => set({ brightness: 2 ** ui.bright.value }));
	on(ui.colour, "change", () => set({ colour_by: ui.colour.value }));
	const heard = {
		"change:_frame": sync, "change:_table": table, "change:brush": brushed, "change:cursor": draw, "change:series": choose,
		"change:height change:colour_by change:brightness": adjust, "msg:custom": told,
		"change:view": () => overview && !drag && String(get("view") || whole()) !== String(view) && look(get("view"), false),
	};
	adjust();
	sync();
	brushed();
	table();
	for (const name in heard) model.on(name, heard[name]);
	const sized = new ResizeObserver(measure), themed = new MutationObserver(recolour);
	sized.observe(plot);
	themed.observe(document.body, { attributes: true });
	if (!get("_table")) setTimeout(() => ask({ kind: "table" }), 50);
	// anywidget lets go of what listens to the model
	return () => { sized.disconnect(); themed.disconnect(); };
}

export default { render };
