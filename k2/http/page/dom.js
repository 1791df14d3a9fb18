// Elements are created from text only: data of the tables is never parsed as markup.

export const $ = (selector, root = document) => root.querySelector(selector);

export function el(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

// A cell with a number, or with a text that stands in its place.
export const number = (text, { class: more = "", ...attributes } = {}) => el("td", { class: `number ${more}`.trim(), text, ...attributes });

// Sets an element's text only if it differs, so that screen readers do not repeat it.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
