(() => {
  const root = document.documentElement;
  const figures = [...document.querySelectorAll(".figure")];
  const colour = name => getComputedStyle(root).getPropertyValue(name).trim();

  // Figures: in the page's colours, at the page's width.
  const theme = figure => {
    const ink = colour("--text");
    for (const trace of figure.data) if (trace.texttemplate) trace.textfont = { color: ink };
    Plotly.update(figure, {}, {
      "font.color": ink, "hoverlabel.bgcolor": colour("--card"),
      "hoverlabel.bordercolor": colour("--line"), "hoverlabel.font.color": ink,
    });
  };
  for (const figure of figures) {
    const { data, layout } = JSON.parse(document.getElementById(figure.dataset.json).textContent);
    Plotly.newPlot(figure, data, layout, {
      responsive: true, displaylogo: false, displayModeBar: innerWidth < 600 ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
    theme(figure);
  }
  const paper = 720;  // pixels across a page of A4 or Letter
  const lowest = 330;  // pixels of a figure on paper
  // what the cards fold is printed; what else is folded is left out
  const folded = document.querySelectorAll(".card details:not([open])");
  const heights = new Map(figures.map(figure => [figure, figure.layout.height]));
  // those of rows, each of which needs its height
  const hasRows = figure => figure.layout.yaxis?.tickvals || figure.data.some(trace => trace.type === "heatmap");
  // others are low, so that several find room on a page
  const printedHeight = figure => hasRows(figure) ? heights.get(figure) : Math.min(heights.get(figure), lowest);
  const onPaper = figure => ({ width: paper, height: printedHeight(figure) });
  const onScreen = figure => ({ width: null, height: heights.get(figure), autosize: true });
  const print = (on, size) => () => {
    root.classList.toggle("paper", on);
    for (const details of folded) details.open = on;
    for (const figure of figures) {
      const drawn = size(figure);
      figure.style.height = `${drawn.height}px`;
      theme(figure);
      Plotly.relayout(figure, drawn);
    }
  };
  addEventListener("beforeprint", print(true, onPaper));
  addEventListener("afterprint", print(false, onScreen));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => figures.forEach(theme));

  // What scrolls has a shadow where there is more.
  for (const box of document.querySelectorAll(".wide > .scroll")) {
    const shade = () => {
      box.parentElement.classList.toggle("more-left", box.scrollLeft > 1);
      box.parentElement.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    };
    box.addEventListener("scroll", shade);
    new ResizeObserver(shade).observe(box);
    shade();
  }

  // On a phone, where each candidate is a card, a long list is folded.
  for (const details of document.querySelectorAll("details[open]")) {
    if (innerWidth <= 640 && details.querySelectorAll("tbody tr").length > 5) details.open = false;
  }

  // Tables are sorted by the heads of their columns.
  const key = cell => cell.dataset.sort ?? cell.textContent.trim().toLowerCase();
  const compare = (a, b) => Number.isNaN(Number(a)) || Number.isNaN(Number(b)) ? a.localeCompare(b) : a - b;
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = [...body.rows].map(row => [key(row.cells[column]), row]);
        keyed.sort(([a], [b]) => (a === "") - (b === "") || (down ? compare(b, a) : compare(a, b)));  // unknown ones last
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }
  for (const input of document.querySelectorAll("input[data-filters]")) input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.getElementById(input.dataset.filters).tBodies[0].rows)
      row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  });

  // Commands are copied by a button.
  for (const command of document.querySelectorAll(".command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(command);
      }
    });
    command.after(button);
  }
})();
