'use strict';
// Helpers for all parts of the page: elements, numbers as text, shapes. All parts are one script, in the order of
// `page.rs`.

const $ = id => document.getElementById(id);

function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function s(name, attributes = {}) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  set(element, attributes);
  return element;
}

function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
}

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

const number = n => n.toLocaleString('en');
const rate = n => n == null ? '–' : n === 0 ? '0' : n < 10 ? n.toFixed(1) : n < 10e3 ? Math.round(n).toLocaleString('en') :
  n < 1e6 ? (n / 1e3).toFixed(1) + 'k' : (n / 1e6).toFixed(2) + 'M';
/** The sentence without its prefix and its stage, which the caller shows itself. */
const bare = sentence => sentence.replace('<Error> ', '').replace(/ \[stage \w+\]$/, '');
const percent = n => (100 * n).toFixed(1) + ' %';

/** A duration as number and unit. */
function time(ms) {
  if (ms == null) return ['–', 'ms'];
  if (ms < 10) return [ms.toFixed(2), 'ms'];
  if (ms < 100) return [ms.toFixed(1), 'ms'];
  return ms < 1000 ? [ms.toFixed(0), 'ms'] : [(ms / 1000).toFixed(2), 's'];
}

function span(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const at = units.findIndex(([length]) => seconds >= length);
  if (at < 0) return '0 s';
  const [length, unit] = units[at], next = units[at + 1];
  const rest = next && Math.floor(seconds % length / next[0]);
  return `${Math.floor(seconds / length)} ${unit}` + (rest ? ` ${rest} ${next[1]}` : '');
}

/** `n` rounded up to 1, 2 or 5 times a power of ten. */
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= n * .999);
}

const CIRCLE = 'M5 1a4 4 0 1 1 0 8a4 4 0 1 1 0-8z';
const SHAPES = {
  swap: 'M5 0 10 5 5 10 0 5z', rollback: 'M10 0v10L0 5z', down: 'M0 1h10L5 10z', up: 'M0 9h10L5 0z', refused: 'M0 0h10v10H0z',
  change: CIRCLE, proven: CIRCLE,
};

function shape(kind) {
  const svg = s('svg', { viewBox: '0 0 10 10', 'aria-hidden': 'true' });
  svg.append(s('path', { d: SHAPES[kind] }));
  return svg;
}

/** The time of day. */
const clock = at => new Date(at).toLocaleTimeString('en-GB');
