// The page itself: what it shows in each of its phases, and what its buttons do.

const byId = (id) => document.getElementById(id);

// "choosing" a wallet, "busy" with one payment, "unanswered" (its fate is unknown, and no other may be signed),
// "stopped" (paid, and nothing more to do here) or "done".
let phase = "choosing";
let offer = null;
let chosen = null;
let attempt = 0;
let isSearchOver = false;
let shownProviders = [];

/** Changes the phase and clears the messages of the one before. */
function enter(next) {
  phase = next;
  shownProviders = [];
  byId("status").replaceChildren();
  byId("problem").replaceChildren();
  show("pay", false);
  if (next === "choosing") renderWallets();
  if (next === "done") {
    byId("heading").textContent = "Paid";
    for (const id of ["description", "offer", "terminal", "test"]) show(id, false);
    document.querySelector("main").classList.add("wide");
    byId("heading").focus();
  }
}

async function pay(wallet) {
  attempt += 1;
  const mine = attempt;
  const still = () => {
    if (mine !== attempt) throw new Error("the person started over");
  };
  enter("busy");
  byId("status").focus();
  let payment;
  try {
    payment = await sign(wallet, chosen, offer, (text) => say(text, startOver), still);
  } catch (error) {
    // What an abandoned attempt still brings, a signature included, is thrown away unsent.
    if (mine !== attempt) return;
    enter("choosing");
    report(walletProblem(error));
    focusFirstButton();
    return;
  }
  await send(payment);
}

function startOver() {
  attempt += 1;
  enter("choosing");
  focusFirstButton();
}

/** The button that had the focus is gone; the keyboard should not have to start from the top of the page. */
function focusFirstButton() {
  byId("pay").querySelector("button:enabled")?.focus();
}

function stop(problem) {
  enter("stopped");
  report(problem);
}

/** The only way on from a payment whose fate is unknown: the same payment once more, after `seconds`. */
function offerSameAgain(payment, problem, seconds) {
  enter("unanswered");
  report(problem);
  const again = element("button", { type: "button", onclick: () => send(payment) });
  byId("pay").replaceChildren(again);
  show("pay", true);
  const readyAt = Date.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((readyAt - Date.now()) / 1000);
    again.disabled = left > 0;
    again.textContent = `Send the same payment again${left > 0 ? ` in ${left} s` : ""}`;
    if (left > 0 && again.isConnected) setTimeout(tick, 250);
  };
  tick();
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function show(id, isVisible) {
  byId(id).hidden = !isVisible;
}

function addResult(...description) {
  const made = element(...description);
  byId("result").append(made);
  show("result", true);
  return made;
}

function say(text, onStartOver) {
  const line = element("div", { className: "working" }, text);
  const again = element("button", { type: "button", className: "quiet", onclick: onStartOver }, "Start over");
  byId("status").replaceChildren(line, ...(onStartOver ? [element("div", { className: "actions" }, again)] : []));
}

function sayProgress(text) {
  byId("progress").textContent = text;
  show("progress", text !== "");
}

function report({ title, message, reason }) {
  const small = reason ? [element("p", { className: "reason fact" }, `Details: ${String(reason).slice(0, 300)}`)] : [];
  byId("problem").replaceChildren(element("strong", {}, title), element("p", {}, message), ...small);
}

function renderOffer(current) {
  const text = (value) => (typeof value === "string" ? value.trim() : "");
  const { resource, options } = current;
  const service = text(resource.serviceName);
  const description = text(resource.description);
  const isSame = ({ accepted }) => accepted.network === chosen?.accepted.network && accepted.asset === chosen.accepted.asset;
  offer = current;
  chosen = options.find(isSame) ?? options[0] ?? null;
  byId("site").textContent = service === "" ? location.host : `${service} · ${location.host}`;
  byId("heading").textContent = "This page has a price";
  byId("description").textContent = description;
  show("description", description !== "");
  show("offer", chosen !== null);
  show("choices", options.length > 1);
  const labels = options.map((option) => {
    const onchange = () => renderChosen(option);
    const input = element("input", { type: "radio", name: "option", checked: option === chosen, onchange });
    return element("label", {}, input, element("span", { className: "fact" }, priceOf(option)));
  });
  byId("choices").replaceChildren(byId("choices").querySelector("legend"), ...labels);
  if (chosen !== null) renderChosen(chosen);
}

function priceOf({ price, unit, networkName }) {
  return `${price} ${unit} on ${networkName}`;
}

function renderChosen(option) {
  chosen = option;
  byId("price").textContent = option.price;
  byId("unit").textContent = option.unit;
  show("test", option.isTest);
  const rows = [["Network", option.networkName, "fact"], ["Paid to", option.accepted.payTo, "address"]];
  if (!option.isUsdc) rows.push(["Token", option.accepted.asset, "address"]);
  const terms = rows.flatMap(([name, value, className]) => [element("dt", {}, name), element("dd", { className }, value)]);
  byId("terms").replaceChildren(...terms);
}

/** Wallets appear at any time; they are offered only while the person may sign something. */
function renderWallets() {
  if (phase !== "choosing" || offer === null) return;
  const wallets = chosen === null ? [] : availableWallets();
  // Buttons that are already there stay, because someone may be about to press one.
  const isNew = wallets.some(({ provider }, index) => provider !== shownProviders[index]);
  if (!isNew && wallets.length > 0 && wallets.length === shownProviders.length) return;
  shownProviders = wallets.map(({ provider }) => provider);
  const focused = [...byId("pay").children].indexOf(document.activeElement);
  const buttons = wallets.map((wallet) => {
    const icon = wallet.icon === null ? [] : [element("img", { src: wallet.icon, alt: "" })];
    return element("button", { type: "button", onclick: () => pay(wallet) }, ...icon, `Pay with ${wallet.name}`);
  });
  const missing = chosen === null
    ? "A browser wallet cannot make the kind of payment that is asked for here, but another program may."
    : "No wallet was found in this browser. Install one as an extension, or open this page in a wallet app.";
  const nothing = element("p", { className: "note" }, missing);
  const isCertain = isSearchOver || chosen === null;
  byId("pay").replaceChildren(...(buttons.length > 0 ? buttons : [nothing]));
  buttons[focused]?.focus();
  show("pay", buttons.length > 0 || isCertain);
  if (buttons.length === 0 && isCertain) byId("terminal").open = true;
}

/** The address as one word for a POSIX shell, whatever is in it. */
function shellWord(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function renderTerminal() {
  const command = `tollgate pay ${shellWord(pageUrl)}`;
  const copy = byId("copy");
  byId("command").textContent = command;
  show("terminal", true);
  // Only secure origins have a clipboard; elsewhere a click selects the command.
  show("copy", navigator.clipboard !== undefined);
  copy.onclick = async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(byId("command"));
    }
  };
}

function readEmbeddedOffer() {
  try {
    return parseOffer(JSON.parse(byId("payment-required").textContent));
  } catch {
    return null;
  }
}

function start() {
  document.title = `Payment required · ${location.host}`;
  byId("site").textContent = location.host;
  renderTerminal();
  const embedded = readEmbeddedOffer();
  if (embedded === null) {
    stop(new Problem("The offer cannot be read", "The site sent a price that this page does not understand."));
    return;
  }
  renderOffer(embedded);
  addEventListener("eip6963:announceProvider", (event) => {
    rememberWallet(event);
    renderWallets();
  });
  addEventListener("ethereum#initialized", renderWallets);
  dispatchEvent(new Event("eip6963:requestProvider"));
  // Extensions may take a moment to appear; only then is it fair to say that there is none.
  setTimeout(() => {
    isSearchOver = true;
    renderWallets();
  }, 500);
  resume(recall());
}

/** Takes up a payment that was sent before this page was loaded again and has had no answer. */
function resume(earlier) {
  if (typeof earlier?.header !== "string") {
    enter("choosing");
  } else if (earlier.validBefore * 1000 > Date.now()) {
    const words = "You signed a payment for this page before, and its outcome is not known. Send the same one again; "
      + "it cannot be charged twice.";
    offerSameAgain(earlier, new Problem("An earlier payment has no answer yet", words), 0);
  } else {
    forget();
    enter("choosing");
    const words = "It has expired since. Look in your wallet whether it was taken before you pay again.";
    report(new Problem("An earlier payment was never answered", words));
  }
}

start();
