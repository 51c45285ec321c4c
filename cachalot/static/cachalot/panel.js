// Sorts a table of the panel by the column whose head is clicked, and the other way round if it is
// sorted by it already. A cell is compared by its data-sort, a number, or else by its text. A
// statement and its details are a body of the table, which stays together.

function compare(one, other) {
    return one.dataset.sort === undefined
        ? one.textContent.localeCompare(other.textContent)
        : one.dataset.sort - other.dataset.sort;
}

// On the document: the toolbar replaces the panel's elements when the history shows another request.
document.addEventListener("click", (event) => {
    // The target itself is the toolbar where this is in a shadow root.
    const button = event.composedPath()[0].closest?.("#CachalotPanel .cachalot-sort");
    if (!button) {
        return;
    }
    const head = button.closest("th");
    const heads = [...head.parentElement.cells];
    const isAscending = head.ariaSort
        ? head.ariaSort === "descending"
        : head.dataset.first !== "descending";
    for (const other of heads) {
        other.ariaSort = null;
    }
    head.ariaSort = isAscending ? "ascending" : "descending";
    const column = heads.indexOf(head);
    const sign = isAscending ? 1 : -1;
    const table = head.closest("table");
    const order = (one, other) => sign * compare(one.cells[column], other.cells[column]);
    if (table.tBodies.length > 1) {
        table.append(...[...table.tBodies].sort((one, other) => order(one.rows[0], other.rows[0])));
    } else {
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    }
});

// Shows only the statements with reads of the kinds that are pressed; all if none is.
document.addEventListener("click", (event) => {
    const chip = event.composedPath()[0].closest?.("#CachalotPanel .cachalot-chip");
    if (!chip) {
        return;
    }
    chip.ariaPressed = chip.ariaPressed === "true" ? "false" : "true";
    const chips = [...chip.parentElement.querySelectorAll(".cachalot-chip")];
    const kinds = chips.filter((one) => one.ariaPressed === "true").map((one) => one.dataset.kind);
    const panel = chip.closest("#CachalotPanel");
    for (const body of panel.querySelectorAll("tbody[data-kinds]")) {
        const has = body.dataset.kinds.split(",");
        body.hidden = kinds.length > 0 && !kinds.some((kind) => has.includes(kind));
    }
});
