// Draws a tree of elements that the kernel sends, and tells it what was pressed.
//
//   tree [tag, {attribute: text}, [child, …]]  ──sync──▶  elements, reused where they match
//   press, change, input                       ──send──▶  {act, arg, value}
//   shown on a visible page                    ──send──▶  {act: "glance"}  ──▶  {again_ms}
//
// Elements are made one by one from the lists below; text never becomes markup. What is reused
// keeps its focus. The status line stays one element, so that screen readers hear it change.
const SVG = "http://www.w3.org/2000/svg";
const TAGS = new Set(
  ("div section header p span strong em code h3 h4 ul ol li dl dt dd details summary figure " +
    "figcaption table caption thead tbody tr th td button label input select option").split(" "),
);
const DRAWN = new Set(["svg", "path", "rect", "title"]);
const NAMES = new Set(
  ("class role scope title colspan for id tabindex type value disabled selected placeholder " +
    "maxlength d x y width height viewBox fill preserveAspectRatio").split(" "),
);
const TYPES = new Set(["button", "text", "search", "checkbox", "col", "row"]);
// Whoever presses twice must not press what only now appeared under the pointer.
const TOO_SOON_MS = 500;
const TYPING_MS = 120;
const GLANCE_MS = 2000;
// A kernel that is gone answers nothing; one that is busy answers later.
const UNANSWERED_MS = 30000;

function allowed(name, value) {
  if (name === "type") return TYPES.has(value);
  return NAMES.has(name) || name.startsWith("aria-") || name.startsWith("data-");
}

function set(element, attributes) {
  for (const old of [...element.attributes]) {
    const kept = old.name in attributes || (old.name === "open" && element.localName === "details");
    if (!kept) element.removeAttribute(old.name);
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (!allowed(name, value) || element.getAttribute(name) === value) continue;
    element.setAttribute(name, value);
    const typing = element === element.ownerDocument.activeElement;
    if (name === "value" && element.localName === "input" && !typing) element.value = value;
  }
}

function make([tag, attributes, children]) {
  if (!TAGS.has(tag) && !DRAWN.has(tag)) return document.createTextNode("");
  const element = DRAWN.has(tag) && tag !== "title"
    ? document.createElementNS(SVG, tag)
    : tag === "title" ? document.createElementNS(SVG, "title") : document.createElement(tag);
  element.born = performance.now();
  set(element, attributes);
  sync(element, children);
  return element;
}

const keyOf = (child) => (typeof child === "string" ? undefined : child[1]["data-key"]);

function fits(node, child) {
  if (typeof child === "string") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === child[0] &&
    node.dataset.key === keyOf(child);
}

function sync(parent, children) {
  let at = 0;
  for (const child of children) {
    let node = parent.childNodes[at];
    const key = keyOf(child);
    if (node && !fits(node, child) && key !== undefined) {
      node = [...parent.childNodes].slice(at).find((each) => fits(each, child));
      if (node) parent.insertBefore(node, parent.childNodes[at]);
    }
    if (node && fits(node, child)) {
      if (typeof child === "string") {
        if (node.data !== child) node.data = child;
      } else {
        set(node, child[1]);
        sync(node, child[2]);
      }
    } else {
      const made = typeof child === "string" ? document.createTextNode(child) : make(child);
      parent.insertBefore(made, parent.childNodes[at] ?? null);
    }
    at += 1;
  }
  while (parent.childNodes.length > at) parent.lastChild.remove();
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "wb-panel";
  root.dataset.lmSuppressShortcuts = "true";
  const body = document.createElement("div");
  const status = document.createElement("p");
  status.className = "wb-status";
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");
  root.append(body, status);
  el.append(root);
  const sent = new Set();
  let typing = 0;
  let pressed = -TOO_SOON_MS;
  let glancing = 0;

  const mark = (element) => `${element.dataset.act}\n${element.dataset.arg ?? ""}`;
  const find = (name) => [...body.querySelectorAll("[data-act]")].find((e) => mark(e) === name);
  const send = (element, value) => {
    const { act, arg } = element.dataset;
    model.send({ act, arg: arg ?? "", value: value ?? "" });
  };

  function draw() {
    const active = root.contains(document.activeElement) ? document.activeElement : null;
    const name = active?.dataset?.act === undefined ? null : mark(active);
    sync(body, [model.get("tree")]);
    const wanted = body.querySelector("[data-focus]");
    if (wanted && wanted !== active && !wanted.taken) {
      wanted.taken = true;
      wanted.focus();
    } else if (active && !root.contains(document.activeElement)) {
      // What was pressed is gone: stay in its row, or at the panel's heading.
      const row = active.dataset?.arg;
      const near = (name && find(name)) ||
        (row && [...body.querySelectorAll("[data-act]")].find((e) => e.dataset.arg === row)) ||
        body.querySelector("h3");
      near?.focus();
    }
  }

  function answered() {
    sent.clear();
  }

  // Others work on the same catalog: while this is looked at, the kernel is asked to look.
  function glance() {
    const seen = !document.hidden && root.getClientRects().length > 0;
    if (seen) model.send({ act: "glance" });
    glanceIn(seen ? UNANSWERED_MS : GLANCE_MS);
  }

  function glanceIn(ms) {
    clearTimeout(glancing);
    glancing = setTimeout(glance, ms);
  }

  function heard({ again_ms }) {
    if (again_ms) glanceIn(again_ms);
  }

  function told() {
    const { ok, text } = model.get("said");
    status.textContent = text;
    status.dataset.ok = String(ok);
  }

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (!button || button.disabled || button.getAttribute("aria-disabled") === "true") return;
    const name = mark(button);
    const now = performance.now();
    const second = event.detail > 0 && now - pressed < TOO_SOON_MS && button.born > pressed;
    if (sent.has(name) || second) return;
    pressed = now;
    sent.add(name);
    send(button);
  });
  body.addEventListener("change", (event) => {
    if (event.target.matches("select[data-act]")) send(event.target, event.target.value);
  });
  body.addEventListener("input", (event) => {
    if (!event.target.matches("input[data-act]")) return;
    const input = event.target;
    clearTimeout(typing);
    typing = setTimeout(() => send(input, input.value), TYPING_MS);
  });
  body.addEventListener("keydown", (event) => {
    const cancel = event.key === "Escape" && body.querySelector("[data-escape]");
    if (cancel) cancel.click();
  });
  draw();
  told();
  model.on("change:tree", draw);
  model.on("change:said", told);
  model.on("change:answered", answered);
  model.on("msg:custom", heard);
  glanceIn(GLANCE_MS);
  return () => {
    clearTimeout(typing);
    clearTimeout(glancing);
    model.off("msg:custom", heard);
    model.off("change:tree", draw);
    model.off("change:said", told);
    model.off("change:answered", answered);
  };
}

export default { render };
