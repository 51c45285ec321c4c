// Sorts a table of the panel by the column whose head is clicked, and the other way round if it is
// sorted by it already. A cell is compared by its data-sort, a number, or else by its text.

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
    const body = head.closest("table").tBodies[0];
    body.append(
        ...[...body.rows].sort((one, other) => sign * compare(one.cells[column], other.cells[column]))
    );
});
