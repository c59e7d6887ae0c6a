// The review page, faster than its forms: the next items are claimed ahead, a label is shown as done
// at once and waits in an outbox of this browser until the service has acknowledged it.
const AHEAD = 3; // items claimed beside the one that is shown
const RETRY_MS = 3000;

const find = (selector, within = document) => within.querySelector(selector);
const main = find("main");
const work = find("#work");
const said = find("#said");
const unsent = find("#unsent");
const undoForm = find("#undo");
const STORE = `tagger-outbox-${main.dataset.client}`;

const skipped = new Set(); // reviews that are being given back
const labelled = []; // this page's own labels, the last one last, with the items as they were
let chain = Promise.resolve(); // one thing is asked of the service at a time
let trouble = ""; // why labels wait
let timer = 0;

const articles = () => [...work.querySelectorAll("article")];
const idOf = (article) => Number(article.dataset.review);
const outbox = () => JSON.parse(localStorage.getItem(STORE) ?? "[]");
const inOrder = (...steps) => steps.forEach((step) => { chain = chain.then(step).catch(console.error); });

function keep(entries) {
  localStorage.setItem(STORE, JSON.stringify(entries));
  showUnsent();
}

function say(text) {
  said.textContent = text;
}

function make(tag, text, more = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, more);
}

// Shows how many labels wait, and those that were refused with what can be done about each.
function showUnsent() {
  const entries = outbox();
  const refused = entries.filter((entry) => entry.problem);
  const waiting = trouble ? entries.length - refused.length : 0;
  unsent.hidden = !waiting && !refused.length;
  const parts = [];
  if (waiting) {
    const line = make("p", `${waiting} unsent: ${trouble}`, { role: "status" });
    if (trouble.startsWith("sign in")) line.append(" ", make("a", "Sign in", { href: "/session" }));
    parts.push(line);
  }
  const list = make("ul", "");
  for (const entry of refused) {
    const row = make("li", "");
    row.append(
      make("span", `“${entry.name}” for “${entry.title}” was not kept: ${entry.problem}.`),
      make("button", "Claim it and send again", { onclick: () => inOrder(() => sendAgain(entry), refill) }),
      make("button", "Discard", { onclick: () => keep(without(entry.review)) }),
    );
    list.append(row);
  }
  if (refused.length) parts.push(list);
  unsent.replaceChildren(...parts);
}

const without = (review) => outbox().filter((entry) => entry.review !== review);

// Returns an answer; null where there was none, or the service is busy, or nobody is signed in.
async function ask(address, init = {}) {
  try {
    const answer = await fetch(address, { signal: AbortSignal.timeout(10_000), ...init });
    const later = answer.status === 429 || answer.status >= 500;
    trouble = answer.status === 401 ? "sign in again, and they will be sent." : later ? "the service is busy." : "";
    return trouble ? null : answer;
  } catch {
    trouble = "no connection; they will be sent when it is back.";
    return null;
  }
}

const post = (address, body) =>
  ask(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({}));
  return told.error ?? `answer ${answer.status}`;
}

async function send() {
  let entry;
  while ((entry = outbox().find((one) => !one.problem))) {
    const answer = await post(`/v1/review/${entry.review}/label`, entry.label);
    if (!answer) break;
    if (answer.ok) keep(without(entry.review));
    else change(entry.review, await problemOf(answer));
  }
  showUnsent();
  clearTimeout(timer);
  if (trouble) timer = setTimeout(sync, RETRY_MS);
}

function change(review, problem) {
  keep(outbox().map((entry) => (entry.review === review ? { ...entry, problem } : entry)));
}

// Asks for the page itself, and brings what this one says of the queue up to date.
async function look(address = "/review", init = {}) {
  const answer = await ask(address, init);
  if (!answer?.ok) return null;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["queue", "hold"]) find(`#${id}`).replaceWith(find(`#${id}`, page));
  find("#idle").innerHTML = find("#idle", page).innerHTML;
  return page;
}

const claim = (review = "") => look("/review/claim", { method: "POST", body: new URLSearchParams({ review }) });

async function refill() {
  let fresh;
  do {
    const page = await (articles().length <= AHEAD ? claim() : look());
    if (!page) break;
    const known = new Set([...articles().map(idOf), ...skipped, ...outbox().map((entry) => entry.review)]);
    fresh = [...page.querySelectorAll("#work article")].filter((one) => !known.has(idOf(one))).reverse();
    for (const one of fresh) add(one);
  } while (fresh.length && articles().length <= AHEAD);
  if (!articles().some((one) => !one.hidden)) reveal();
}

function add(article, first = false) {
  article.hidden = true;
  article.until = Date.now() + Number(article.dataset.left);
  first ? work.prepend(article) : find("#idle").before(article);
}

// Shows the first item that is still this person's.
function reveal() {
  for (const one of articles()) if (one.until < Date.now()) one.remove();
  const [first, ...others] = articles();
  for (const one of others) one.hidden = true;
  find("#idle").hidden = Boolean(first);
  if (first) {
    first.hidden = false;
    find("h2", first).focus({ preventScroll: true });
    scrollTo(0, 0);
  } else find("#idle button").focus();
}

function leave(article, text) {
  article.remove();
  say(text);
  reveal();
}

function label(article, button) {
  const name = button.name === "tag" ? button.value : button.name;
  const choice = { [button.name]: button.name === "tag" ? button.value : true };
  const title = find("h2", article).textContent.slice(0, 80);
  const review = idOf(article);
  keep([...without(review), { review, title, name, label: choice }]);
  labelled.push({ review, article });
  showUndo();
  leave(article, `“${name}” for “${title}”.`);
  sync();
}

function skip(article) {
  const review = idOf(article);
  skipped.add(review);
  leave(article, "Skipped.");
  inOrder(async () => {
    await post(`/v1/review/${review}/skip`);
    skipped.delete(review);
  }, refill);
}

function showUndo() {
  undoForm.hidden = !labelled.length;
  find("input", undoForm).value = labelled.at(-1)?.review ?? "";
}

async function undo() {
  const last = labelled.at(-1);
  if (!last) return;
  if (outbox().some((entry) => entry.review === last.review)) keep(without(last.review));
  else {
    const answer = await post(`/v1/review/${last.review}/undo`);
    if (!answer?.ok) {
      say(`Not undone: ${answer ? await problemOf(answer) : trouble}.`);
      return;
    }
  }
  labelled.pop();
  add(last.article, true);
  showUndo();
  say("Undone: choose again.");
  reveal();
}

async function sendAgain(entry) {
  const page = await claim(entry.review);
  if (!page) return say(`Not sent: ${trouble}`);
  const mine = find(`article[data-review="${entry.review}"]`, page);
  change(entry.review, mine ? "" : "somebody else has it now, or it is settled");
  await send();
}

const sync = () => inOrder(send, refill);

document.addEventListener("submit", (event) => {
  const form = event.target;
  const button = event.submitter;
  const article = form.closest("#work article");
  if (form === undoForm && !labelled.length) return; // by the form, after a page was loaded anew
  if (form === undoForm) inOrder(undo);
  else if (form.id === "idle") inOrder(refill);
  else if (article && button?.dataset.key === "s") skip(article);
  else if (article && button) label(article, button);
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, select, textarea")) return;
  const key = `[data-key="${CSS.escape(event.key.toLowerCase())}"]`;
  const button = find(`#work article:not([hidden]) ${key}, #undo:not([hidden]) ${key}`);
  if (!button) return;
  event.preventDefault();
  button.click();
});

addEventListener("online", sync);
addEventListener("storage", showUnsent);

const waiting = new Set(outbox().map((entry) => entry.review));
for (const one of articles().reverse()) {
  if (waiting.has(idOf(one))) one.remove();
  else add(one, true);
}
if (articles().length) reveal();
if (articles().length || waiting.size) sync();
