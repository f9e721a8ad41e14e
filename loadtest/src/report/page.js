// Shows the numbers under the pointer. The page says all it has to say without this.
"use strict";
const bases = {
  count: [[1e6, " M"], [1e3, " k"], [0, ""]],
  bytes: [[1073741824, " GiB"], [1048576, " MiB"], [1024, " KiB"], [0, " B"]],
  micros: [[1e6, " s"], [1e3, " ms"], [0, " µs"]],
  percent: [[0, " %"]],
  seconds: [[0, " s"]],
};
const label = (value, unit) => {
  const [base, suffix] = bases[unit].find(([base]) => value >= base) ?? bases[unit].at(-1);
  return Number((value / (base || 1)).toPrecision(4)) + suffix;
};
for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg");
  const { pixels, names, x, y, columns } = JSON.parse(figure.querySelector("script").textContent);
  const output = figure.appendChild(document.createElement("output"));
  const cursor = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
  cursor.setAttribute("class", "cursor");
  const hide = () => { output.hidden = true; cursor.setAttribute("d", ""); };
  hide();
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    let nearest = 0;
    pixels.forEach((pixel, n) => { if (Math.abs(pixel - at) < Math.abs(pixels[nearest] - at)) nearest = n; });
    const lines = names.map((name, n) => [name, columns[n][nearest]]).filter(([, value]) => value !== null);
    output.textContent = [x[nearest], ...lines.map(([name, value]) => `${name}  ${label(value, y)}`)].join("\n");
    output.hidden = false;
    cursor.setAttribute("d", `M${pixels[nearest]} 46V246`);
    const left = pixels[nearest] * box.width / svg.viewBox.baseVal.width;
    output.style.left = left > box.width / 2 ? "" : `${left + 10}px`;
    output.style.right = left > box.width / 2 ? `${box.width - left + 10}px` : "";
  });
}
