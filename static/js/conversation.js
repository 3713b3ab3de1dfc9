/* A live conversation: the socket's place in the stream, following what grows, where the reader is, copying.
   The server's fragments say everything that is shown; this only moves the page and speaks of it. */
(() => {
  "use strict";
  const $ = (selector) => document.querySelector(selector);
  const live = $("#live");
  if (!live) return;
  const root = document.scrollingElement;
  const say = (text) => { if (text) $("#status").textContent = text; };
  const unfinished = () => $("#work").hasAttribute("data-unfinished");

  /* Where the page stands: a connection asks for what comes after it, and gets exactly that. */
  const { after, revision, shows } = live.dataset;
  const known = { after, revision, ...(shows && { shows }) };
  const query = () => new URLSearchParams(known);
  const learn = ({ after, revision }) => Object.assign(known, { after, revision });

  /* Since when nothing has been heard, 0 while there is a connection. */
  let lost = 0;
  let heard = 0;
  let gone = false;
  let polling;
  const complain = () => {
    const line = $("#connection");
    const away = lost && performance.now() - lost;
    line.hidden = !((gone && !$("#gone")) || (away > 2900 && unfinished()));
    if (gone) line.textContent = live.dataset.gone;
    else if (away > 5900) polling ||= setInterval(poll, 3000);
  };
  const disconnected = () => {
    lost ||= performance.now();
    for (const wait of [3000, 6000]) setTimeout(complain, wait);
  };
  const connected = () => {
    lost = 0;
    heard = performance.now();
    clearInterval(polling);
    polling = undefined;
    complain();
  };
  const end = () => {
    gone = true;
    clearInterval(polling);
    const instead = $("#gone");
    if (!instead) return complain();
    /* A link that opens for this reader no more: nothing that it showed stays. */
    $("#main").replaceChildren(instead.content.cloneNode(true));
    for (const each of ["#actions", "#title"]) $(each).remove();
    $("#work").removeAttribute("data-unfinished");
    mark();
    document.title = live.dataset.gone;
    say(live.dataset.gone);
  };

  let line;
  live.addEventListener("htmx:ws:before:connection", ({ detail: { connection } }) => {
    line = connection;
    const url = new URL(connection.url);
    url.search = query();
    connection.url = url.href;
  });
  live.addEventListener("htmx:ws:close", ({ detail }) => {
    if (detail.code === 4404) end();
    else disconnected();
  });
  /* A socket that opens and closes again is no connection; the first message comes within a second or so. */
  live.addEventListener("htmx:ws:after:message:incoming", async ({ detail }) => {
    connected();
    learn(await detail.message.json());
  });
  /* Some proxies let a socket open and nothing through, or never answer. */
  disconnected();

  /* Without a socket the same changes come by request: one at a time, and one that hangs gives way to the next. */
  let asking = false;
  async function poll() {
    if (gone || asking) return;
    asking = true;
    try {
      const place = `${live.dataset.changes}?${query()}&title=${encodeURIComponent($("#title").textContent)}`;
      const response = await fetch(place, { signal: AbortSignal.timeout(20000) });
      if (response.redirected || response.status === 404) return end();
      if (!response.ok) return;
      const changes = await response.json();
      /* What came by the socket in the meantime may be newer. */
      if (changes.after < Number(known.after) || (changes.after === Number(known.after) && changes.revision < Number(known.revision))) return;
      if (changes.content) {
        await htmx.swap({ sourceElement: live, target: live, swap: "innerHTML swapEmpty:false", text: changes.content });
      }
      learn(changes);
    } catch { /* the next one may get through */ } finally { asking = false; }
  }
  /* A page that comes back from the back-forward cache has lost its socket; the extension makes a new one. */
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    htmx.process(live, true);
    poll();
  });
  addEventListener("online", poll);
  /* While something goes on the server speaks every few seconds. A socket that is mute for longer was dropped by
     somebody between; once it is closed, whatever it still held back cannot come after what is asked for instead. */
  setInterval(() => {
    if (lost || gone || !unfinished() || performance.now() - heard < 20000) return;
    disconnected();
    line.socket.close();
  }, 1000);

  /* Following. Within 80 pixels of its end the page goes with what grows, until the reader's hand says otherwise. */
  const NEAR = 80;
  const latest = $("#latest");
  const growing = () => $(".turn.unfinished .answer.growing");
  const dockTop = () => innerHeight - $(".dock").offsetHeight;
  const below = () => {
    const answer = growing();
    return answer ? answer.getBoundingClientRect().bottom + 24 - dockTop() : 0;
  };
  let following = true;
  const follow = () => {
    if (!growing()) return offer();
    const more = below();
    if (following && more > 0) scrollBy({ top: more, behavior: "instant" });
    offer();
  };
  let news = "";
  /* A turn that came below what is in view. */
  let unseen = null;
  const offer = () => {
    if (unseen && unseen.getBoundingClientRect().top < dockTop()) unseen = null;
    const away = news || unseen || (growing() && !following && below() > NEAR);
    latest.hidden = !away;
    const words = news || (unseen ? latest.dataset.question : latest.dataset.words);
    if (away && latest.lastElementChild.textContent !== words) latest.lastElementChild.textContent = words;
  };
  latest.dataset.words = latest.textContent.trim();
  const release = () => { following = false; };
  const near = () => {
    if (growing() && Math.abs(below()) <= NEAR) following = true;
    offer();
  };
  addEventListener("wheel", ({ deltaY }) => { if (deltaY < 0) release(); }, { passive: true });
  addEventListener("touchmove", release, { passive: true });
  addEventListener("keydown", ({ key }) => { if (["ArrowUp", "PageUp", "Home"].includes(key)) release(); });
  document.addEventListener("selectionchange", () => { if (!getSelection().isCollapsed) release(); });
  addEventListener("scrollend", near);
  latest.addEventListener("click", () => {
    if (unseen && !news) {
      unseen.scrollIntoView();
      following = below() <= NEAR;
      return offer();
    }
    if (news) [...document.querySelectorAll(".turn > .main")].pop().scrollIntoView();
    news = "";
    following = true;
    follow();
    latest.hidden = true;
  });

  /* Where the reader is. A card that folds away at a stage's end is kept open for whoever is inside it. */
  const atEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  const inside = (card, box) => {
    const selection = getSelection();
    return (
      card.contains(document.activeElement) ||
      (!selection.isCollapsed && card.contains(selection.anchorNode)) ||
      (box.scrollTop > 0 && !atEnd(box))
    );
  };
  const topmost = (box) => {
    const edge = box.getBoundingClientRect().top;
    return [...box.querySelectorAll(":scope > *")].find((each) => each.getBoundingClientRect().bottom > edge + 8) ?? box;
  };
  /* What the reader has before the eyes, if it is evidence. */
  const evidence = () => {
    for (const share of [0.2, 0.5, 0.75]) {
      const found = document.elementFromPoint(innerWidth * 0.6, innerHeight * share)?.closest(".turn.unfinished .evidence details[open] *");
      if (found) return found;
    }
    return null;
  };
  const watched = () => [...document.querySelectorAll(".turn.unfinished > .main > .cards > .card")];
  /* A page that comes in the middle follows what is written as one that was there from the beginning. */
  for (const card of watched()) {
    const box = card.querySelector(".body");
    if (box) box.scrollTop = box.scrollHeight;
  }
  let before;
  const look = () => {
    const cards = watched();
    before = { boxes: [], reading: null, say: announcement(), pressed: ["stop", "retry"].includes(document.activeElement?.form?.id) };
    for (const card of cards) {
      const box = card.querySelector(".body");
      if (!box) continue;
      before.boxes.push({ id: card.id, end: atEnd(box), top: box.scrollTop });
      if (!before.reading && inside(card, box)) {
        const block = topmost(box);
        before.reading = { card, block, y: block.getBoundingClientRect().top };
      }
    }
    before.turn = lastTurn()?.id;
    const block = before.reading ? null : evidence();
    if (block) before.reading = { card: block, block, y: block.getBoundingClientRect().top };
  };
  const settle = () => {
    if (!before) return;
    for (const { id, end, top } of before.boxes) {
      const box = document.getElementById(id)?.querySelector(".body");
      if (box && box.closest(".turn.unfinished > .main")) box.scrollTop = end ? box.scrollHeight : top;
    }
    /* With its button the focus would go too: from here Tab goes on to what came. */
    if (before.pressed && document.activeElement === document.body) $("#main").focus({ preventScroll: true });
    const said = announcement();
    if (said !== before.say) stage(said, before.reading);
    if (before.turn && before.turn !== lastTurn()?.id) came();
    before = null;
  };
  const lastTurn = () => $("#turns > .turn:last-child");
  const came = () => {
    unseen = lastTurn();
    offer();
    if (unseen) release();
  };
  const announcement = () => [...document.querySelectorAll(".rail")].pop()?.dataset.announce;
  const stage = (words, reading) => {
    say(words);
    news = "";
    const fold = reading?.card.isConnected && reading.card.closest("details");
    if (!fold) return;
    fold.open = true;
    const block = reading.block.isConnected ? reading.block : reading.card;
    scrollBy({ top: block.getBoundingClientRect().top - reading.y, behavior: "instant" });
    release();
    news = words;
  };
  /* What is tried again is not folded away, also where it has ended before this page heard of it: a morph leaves alone
     whether a fold is open. Each try's fold has an id of its own, and is opened once. */
  const triedFold = () => [...document.querySelectorAll(".evidence details[data-tried]")].pop();
  let tried = triedFold()?.id;
  const unfoldTried = () => {
    const fold = triedFold();
    if (fold && fold.id !== tried) fold.open = true;
    tried = fold?.id;
  };
  /* A socket asks from where the last one ended, and a request may have brought more since: a turn that comes again
     takes the place of the one that is there. */
  const replace = (task) => {
    const there = task.swapSpec.style === "beforeend" && document.getElementById(task.fragment.firstElementChild?.id);
    if (there) [task.target, task.swapSpec.style] = [there, "outerMorph"];
  };
  document.addEventListener("htmx:before:swap", ({ target, detail }) => {
    if (target !== live) return;
    detail.tasks.forEach(replace);
    look();
  });
  /* Not after the swap's own event, which may come a frame late: what moved is put right before it is painted. */
  new MutationObserver(() => {
    settle();
    unfoldTried();
    follow();
  }).observe($("#turns"), { childList: true, characterData: true, subtree: true });
  document.addEventListener("htmx:after:swap", ({ target }) => {
    if (target === live) title();
    const list = $("#history");
    if (list?.dataset.say && document.activeElement?.type === "search") say(list.dataset.say);
  });

  /* The tab's icon: at work, or ended while nobody looked, until somebody does. */
  const icon = $("link[rel=icon]");
  const icons = { plain: icon.getAttribute("href"), working: live.dataset.iconWorking, done: live.dataset.iconDone };
  let shown = "plain";
  const mark = () => {
    shown = unfinished() ? "working" : document.hidden && shown !== "plain" ? "done" : "plain";
    const href = icons[shown];
    if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
  };
  document.addEventListener("visibilitychange", mark);

  /* The tab's title: a dot while the council is at work, a tick when it has ended before our eyes. */
  const suffix = document.title.slice($("#title").textContent.length);
  let worked = unfinished();
  const title = () => {
    const now = unfinished();
    worked ||= now;
    document.title = `${now ? "• " : worked ? "✓ " : ""}${$("#title").textContent}${suffix}`;
    const question = $("#composer")?.elements.question;
    if (question) question.placeholder = $("#work").dataset.placeholder;
    mark();
    complain();
  };
  title();

  /* A link to a card opens what it is folded into. */
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  document.addEventListener("click", (event) => {
    /* The same link a second time changes no hash. */
    if (event.target.closest?.(".turn a[href^='#']")) setTimeout(unfold);
  });
  if (location.hash) unfold();
  else if (!document.body.matches(".shared") && performance.getEntriesByType("navigation")[0]?.type === "navigate") {
    /* Whoever comes back to an own conversation goes on at its end; what is shared is read from its beginning. */
    const turns = document.querySelectorAll(".turn");
    if (turns.length > 1) turns[turns.length - 1].scrollIntoView();
  }
  following = Math.abs(below()) <= NEAR || below() < 0;

  /* It says that it stops, unless that did not get through: then it can be asked once more. */
  const stopping = (asked) => {
    for (const button of document.querySelectorAll("button[form=stop]")) {
      button.dataset.idle ??= button.textContent;
      button.textContent = asked ? button.dataset.busy : button.dataset.idle;
      if (asked) button.setAttribute("aria-disabled", "true"); else button.removeAttribute("aria-disabled");
    }
  };
  $("#stop")?.addEventListener("submit", () => stopping(true));
  $("#stop")?.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
    if (ctx.response?.status !== 204) stopping(false);
  });
})();
