// Making and changing elements. Text is set as text, never as HTML.

// element('p', {className: 'note', 'aria-live': 'polite'}, 'text', child)
export function element(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

const SVG = 'http://www.w3.org/2000/svg';

export function svgElement(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith('on')) {
      node.addEventListener(name.slice(2), value);
    } else if (name === 'className') {
      node.setAttribute('class', value);
    } else if (name === 'dataset') {
      Object.assign(node.dataset, value);
    } else if (typeof value === 'boolean' && !name.startsWith('aria-')) {
      node.toggleAttribute(name, value);
    } else {
      node.setAttribute(name, value);
    }
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

// Writes only what differs: a live page should not disturb a selection, nor
// make a screen reader repeat itself.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function replaceChildren(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child != null));
}

// A titled part of the page.
export function card(title, {className = '', note, tools = []} = {}, ...body) {
  const heading = element('h2', {}, title);
  const head = element('div', {className: 'card-head'}, heading, note, tools);
  return element(
      'section', {className: `card ${className}`.trim(), 'aria-label': title},
      head, body);
}
