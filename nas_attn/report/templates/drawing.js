// Replaces the page's text by the pictures of ORDERS, one address a line.
(async () => {
  const addresses = [];
  for (const { figure, how } of ORDERS) {
    addresses.push(await Plotly.toImage({ data: figure.data, layout: figure.layout }, how));
  }
  document.body.textContent = addresses.join('\n');
})().catch((error) => {
  document.body.textContent = FAILED + error;
});
