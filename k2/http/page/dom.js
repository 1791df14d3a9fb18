// Elements are made from text alone: what comes from the tables is never read as markup.

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

// An element's text, changed only where it differs: what is the same is not read out again.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
