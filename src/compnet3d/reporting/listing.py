"""Lists of a page that a reader can filter and sort: cards with pictures, or rows of a table.

A small script of our own does it. Without it the page shows everything in the order that it was written in.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Value = str | float | tuple[str, ...]
SCRIPT = """
for (const box of document.querySelectorAll(".listing")) {
  const bar = box.querySelector(".bar"), list = box.querySelector(".items"), items = [...list.children];
  const filters = [...bar.querySelectorAll("select[data-key]")], order = bar.querySelector("select.order");
  const text = bar.querySelector("input"), count = bar.querySelector("output");
  const numeric = Object.fromEntries([...order.options].map(o => [o.value, o.dataset.kind === "number"]));
  function show() {
    const words = text.value.toLowerCase();
    let shown = 0;
    for (const item of items) {
      const fits = filters.every(f => !f.value || item.dataset[f.dataset.key].split("|").includes(f.value));
      item.hidden = !(fits && item.textContent.toLowerCase().includes(words));
      shown += !item.hidden;
    }
    count.value = `${shown} of ${items.length}`;
  }
  function sort() {
    const [key, sign] = order.value.split(" "), s = sign === "down" ? -1 : 1;
    const compare = numeric[order.value] ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    const value = item => numeric[order.value] ? Number(item.dataset[key]) : item.dataset[key];
    list.append(...items.sort((a, b) => s * compare(value(a), value(b))));
  }
  for (const part of [...filters, text]) part.addEventListener("input", show);
  order.addEventListener("input", sort);
  bar.hidden = false;
  show();
}
"""


@dataclass(frozen=True)
class Item:
    """One card or row.

    Attributes:
        body: its HTML.
        values: what it is filtered and sorted by, under names of small letters; several values of one name as a tuple.
    """

    body: str
    values: Mapping[str, Value] = field(default_factory=dict)

    def attributes(self) -> str:
        """For its tag."""
        texts = {name: "|".join(value) if isinstance(value, tuple) else value for name, value in self.values.items()}
        return "".join(f' data-{name}="{html.escape(str(text))}"' for name, text in texts.items())


@dataclass(frozen=True)
class Order:
    """A way to sort: its name for the reader, by which value, whether the largest come first."""

    label: str
    key: str
    largest_first: bool = False


def gallery(items: Sequence[Item], filters: Mapping[str, str], orders: Sequence[Order]) -> str:
    """Cards with a bar above them.

    Args:
        items: their bodies are put into <figure>; in the first of the orders.
        filters: of the values that a reader can choose by, name to label.
        orders: at least one, the first being that in which the items come.
    """
    cards = "".join(f"<figure{item.attributes()}>{item.body}</figure>" for item in items)
    return f'<div class="listing">{_bar(items, filters, orders)}<div class="gallery cards items">{cards}</div></div>'


def rows(items: Sequence[Item], columns: Mapping[str, str], filters: Mapping[str, str], orders: Sequence[Order]) -> str:
    """A table with a bar above it; the bodies of the items are the cells, see `gallery`; columns by name with class."""
    head = "".join(f'<th class="{kind}">{html.escape(name)}</th>' for name, kind in columns.items())
    body = "".join(f"<tr{item.attributes()}>{item.body}</tr>" for item in items)
    table = f'<table><thead><tr>{head}</tr></thead><tbody class="items">{body}</tbody></table>'
    return f'<div class="listing">{_bar(items, filters, orders)}<div class="scroll tall">{table}</div></div>'


def _bar(items: Sequence[Item], filters: Mapping[str, str], orders: Sequence[Order]) -> str:
    """The choices; hidden, until the script that heeds them shows them."""
    choices = "".join(_filter(items, key, label) for key, label in filters.items())
    sorts = "".join(_order(items, order) for order in orders)
    return (
        f'<p class="bar" hidden>{choices}<label>sorted <select class="order">{sorts}</select></label>'
        '<label>text <input type="search" size="12"></label><output></output></p>'
    )


def _filter(items: Sequence[Item], key: str, label: str) -> str:
    found: set[str] = set()
    for item in items:
        value = item.values[key]
        found.update(value if isinstance(value, tuple) else [str(value)])
    options = "".join(f"<option>{html.escape(value)}</option>" for value in sorted(found))
    return (
        f'<label>{html.escape(label)} <select data-key="{key}"><option value="">all</option>{options}</select></label>'
    )


def _order(items: Sequence[Item], order: Order) -> str:
    kind = "text" if items and isinstance(items[0].values[order.key], str) else "number"
    way = "down" if order.largest_first else "up"
    return f'<option value="{order.key} {way}" data-kind="{kind}">{html.escape(order.label)}</option>'
