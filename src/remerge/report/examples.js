// Two answers to the same test examples, side by side: a merge's and its task's expert's, or another merge's.

const known = JSON.parse(document.getElementById("answered").textContent);
const form = document.getElementById("side-by-side");
const field = Object.fromEntries([...form.elements].map((element) => [element.name, element]));
const MOST = 100;

const bits = (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return (place) => (bytes[place >> 3] >> (7 - (place & 7))) & 1;
};
const options = (select, pairs) => {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, label]) => new Option(label, value)));
  if (pairs.some(([value]) => String(value) === before)) select.value = before;
};
// A method may merge nothing that is judged right or wrong.
const methods = known.methods
  .map((label, place) => [place, label])
  .filter(([place]) => known.merges.some((m) => m[0] === place));
const merge = (method) => known.merges.find((m) => m[0] === Number(method) && m[1] === field.subset.value);

// Of a choice, what was taken is known for the wrong examples, in their order; NaN takes none.
function marks(task, right, wrong) {
  let count = 0;
  const taken = (place) => (wrong ? `wrong: ${task.options[place][wrong[count++]] ?? "none"}` : "wrong");
  return [...Array(task.n).keys()].map((place) => (right(place) ? "right" : taken(place)));
}

function chosen() {
  const mine = known.merges.filter((m) => m[0] === Number(field.method.value));
  mine.sort((a, b) => a[2] - b[2]);
  options(field.subset, mine.map((m) => [m[1], `${m[1]}, ANP ${m[2].toFixed(1)}`]));
  options(field.task, Object.keys(merge(field.method.value)[3]).map((t) => [t, known.tasks[t].label]));
  const able = methods.filter(([place]) => String(place) !== field.method.value && merge(place));
  options(field.other, [["expert", "the task's expert"], ...able]);
  show();
}

function show() {
  const task = known.tasks[field.task.value];
  const given = (m) => [bits(m[3][field.task.value]), m[4][field.task.value]];
  const other = field.other.value;
  const [first, wrong] = given(merge(field.method.value));
  const [second, others] = other === "expert" ? [bits(task.expert), task.wrong] : given(merge(other));
  const wanted = {
    lost: (a, b) => !a && b,
    won: (a, b) => a && !b,
    both: (a, b) => !a && !b,
    wrong: (a) => !a,
  }[field.which.value];
  const found = [...Array(task.n).keys()].filter((place) => wanted(first(place), second(place)));
  document.getElementById("how-many").textContent =
    `${found.length} of ${task.n} test examples` + (found.length > MOST ? `, the first ${MOST}` : "");
  const answered = [marks(task, first, wrong), marks(task, second, others)];
  const rows = found.slice(0, MOST).map((place) => {
    const row = document.createElement("tr");
    const both = answered.map((texts) => texts[place]);
    for (const text of [place + 1, task.inputs[place], task.answers[place], ...both]) {
      const cell = row.insertCell();
      cell.textContent = text;
      if (text.length > 40) cell.className = "wrap";
    }
    return row;
  });
  document.querySelector("#examples tbody").replaceChildren(...rows);
}

options(field.method, methods);
form.addEventListener("change", chosen);
for (const link of document.querySelectorAll("a[data-method]")) {
  link.hidden = !methods.some(([place]) => String(place) === link.dataset.method);
  link.addEventListener("click", () => {
    field.method.value = link.dataset.method;
    chosen();
  });
}
chosen();
