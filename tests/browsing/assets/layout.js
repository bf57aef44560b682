// What a reader would see as broken: text outside its box, text over text, words broken inside.
(() => {
  const problems = [];
  const shown = element => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const say = (what, text) => problems.push(`${what}: ${text.trim().replace(/\s+/g, " ").slice(0, 70)}`);
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) problems.push("the page is wider than the window");

  // HTML: each piece of text lies in its block, and in the window unless it can be scrolled to.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest("svg, script, style, thead") || !shown(parent)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    let block = parent;
    while (getComputedStyle(block).display.startsWith("inline") && block.parentElement) block = block.parentElement;
    const box = block.getBoundingClientRect();
    const scrolls = parent.closest(".scroll, pre");
    for (const line of range.getClientRects()) {
      if (line.width < 1) continue;
      if (line.right > box.right + 1 || line.left < box.left - 1) { if (!parent.closest("pre")) say("outside its box", node.data); }
      else if (!scrolls && (line.right > width + 1 || line.left < -1)) say("outside the window", node.data);
    }
  }

  // Placements: a word is broken only if it is wider than all that there is.
  for (const part of document.querySelectorAll(".notation .part")) {
    if (!shown(part) || !part.firstChild) continue;
    const room = part.parentElement.parentElement.getBoundingClientRect().width;
    for (const word of part.textContent.matchAll(/\S+/g)) {
      const range = document.createRange();
      range.setStart(part.firstChild, word.index);
      range.setEnd(part.firstChild, word.index + word[0].length);
      const lines = [...range.getClientRects()];
      const whole = lines.reduce((sum, line) => sum + line.width, 0);
      if (lines.length > 1 && whole < room - 12) say("broken inside a word", word[0]);
    }
  }

  // Figures: all text is inside, and no two texts meet.
  for (const figure of document.querySelectorAll(".figure")) {
    if (!shown(figure)) continue;
    const frame = figure.getBoundingClientRect();
    const texts = [...figure.querySelectorAll("text")].filter(text => shown(text) && text.textContent.trim() && !text.closest(".hoverlayer"))
      .map(text => ({ text: text.textContent, box: text.getBoundingClientRect() })).filter(one => one.box.width > 0);
    for (const { text, box } of texts) {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) say("outside its figure", text);
    }
    texts.forEach((one, at) => {
      for (const other of texts.slice(at + 1)) {
        const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
        const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
        if (across > 1 && down > 3) say("text over text", `${one.text} | ${other.text}`);
      }
    });
  }
  // Card: the small drawing's names are inside its boxes.
  for (const drawing of document.querySelectorAll("svg.network")) {
    const frame = drawing.getBoundingClientRect();
    for (const text of drawing.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left || box.right > frame.right) say("outside the drawing", text.textContent);
    }
  }
  // An id names one element.
  const ids = [...document.querySelectorAll("[id]")].map(element => element.id).filter(id => !id.startsWith("g") && !id.startsWith("clip") && !id.startsWith("legend"));
  for (const id of ids.filter((id, at) => ids.indexOf(id) < at)) if (!document.getElementById(id).closest(".figure")) problems.push(`id twice: ${id}`);
  return [...new Set(problems)];
})()
