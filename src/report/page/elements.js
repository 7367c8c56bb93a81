// Makes elements. Texts are set as text, never as markup: they may be anything that a data file holds.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

// A sentence in which names of columns stand between backticks.
function sentence(text) {
  return text.split('`').map((part, index) => index % 2 ? element('code', {}, part) : part);
}

// A button that does one thing.
function button(text, label, act) {
  return element('button', { type: 'button', 'aria-label': label, title: label, onclick: act }, text);
}

// A list to choose from; `choices` are pairs of value and text.
function chooser(label, choices, act) {
  const options = choices.map(([value, text]) => element('option', { value }, text));
  const select = element('select', { onchange: () => act(select.value) }, ...options);
  return element('label', {}, `${label} `, select);
}

// Calls once, after the last of many calls within a frame.
function onceAFrame(act) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => { waits = false; act(); });
  };
}
