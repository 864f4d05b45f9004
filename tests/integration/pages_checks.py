"""What a browser can check of a page by itself: names, headings, contrast, width."""

from __future__ import annotations

from playwright.sync_api import Page

__all__ = ["faults_of"]

_NAMES = """() => {
  const faults = [];
  const text = (el) => (el.getAttribute('aria-label') || '').trim()
    || (el.getAttribute('aria-labelledby') || '').split(/\\s+/).filter(Boolean)
         .map((id) => document.getElementById(id)?.textContent || '').join(' ').trim();
  const hidden = (el) => el.closest('[aria-hidden="true"]') !== null;
  const what = (el) => el.outerHTML.slice(0, 120);
  for (const el of document.querySelectorAll('svg, img')) {
    if (!hidden(el) && !text(el) && !el.getAttribute('alt')) faults.push('no name: ' + what(el));
  }
  for (const el of document.querySelectorAll('a, button, summary')) {
    if (!hidden(el) && !text(el) && !el.textContent.trim()) faults.push('no name: ' + what(el));
    if (hidden(el) && el.tabIndex >= 0) faults.push('hidden and focusable: ' + what(el));
  }
  for (const el of document.querySelectorAll('[role="img"] a')) faults.push('a link inside an image: ' + what(el));
  for (const el of document.querySelectorAll('[aria-labelledby], [aria-label]')) {
    if (!text(el)) faults.push('an empty label: ' + what(el));
  }
  for (const el of document.querySelectorAll('th')) if (!el.scope) faults.push('a header of nothing: ' + what(el));
  const ids = [...document.querySelectorAll('[id]')].map((el) => el.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) faults.push('twice: #' + id);
  for (const tag of ['main', 'header', 'footer', 'h1']) {
    const found = document.querySelectorAll(tag === 'h1' || tag === 'main' ? tag : 'body > ' + tag).length;
    if (found !== 1) faults.push(found + ' of ' + tag);
  }
  if (!document.documentElement.lang) faults.push('no language');
  if (!document.title) faults.push('no title');
  let level = 0;
  for (const el of document.querySelectorAll('main :is(h1, h2, h3, h4, h5, h6)')) {
    const next = Number(el.tagName[1]);
    if (next > level + 1) faults.push('a level is left out before: ' + what(el));
    level = next;
  }
  return faults;
}"""

# Text against what lies behind it, as WCAG 2 counts it: 4.5 to 1, 3 to 1 for large text.
_CONTRAST = """() => {
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return [parts[0], parts[1], parts[2], parts.length > 3 ? parts[3] : 1];
  };
  const over = (top, alpha, under) => under.map((value, at) => top[at] * alpha + value * (1 - alpha));
  const ground = (el) => {
    if (!el) return [255, 255, 255];
    const [r, g, b, a] = parse(getComputedStyle(el).backgroundColor);
    return a === 1 ? [r, g, b] : over([r, g, b], a, ground(el.parentElement));
  };
  const faults = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const el = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !el.checkVisibility()) continue;
    if (el.closest('[aria-hidden="true"]') && !el.closest('a, time, .axis')) continue;
    if (el.tagName === 'title') continue;
    const style = getComputedStyle(el);
    const behind = ground(el);
    const ink = parse(el instanceof SVGElement ? style.fill : style.color);
    let alpha = ink[3];
    for (let up = el; up; up = up.parentElement) alpha *= Number(getComputedStyle(up).opacity);
    const a = luminance(over(ink, alpha, behind)), b = luminance(behind);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    if (ratio < least) {
      faults.add(`contrast ${ratio.toFixed(2)}: ${el.tagName} .${el.getAttribute('class') || ''} `
        + walker.currentNode.textContent.trim().slice(0, 40));
    }
  }
  return [...faults];
}"""

_WIDTH = """() => {
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return over > 0 ? [`${over} pixels wider than the window`] : [];
}"""


def faults_of(page: Page) -> list[str]:
    """Return what is wrong with a page for who cannot see it well, or has a small screen."""
    return [fault for check in (_NAMES, _CONTRAST, _WIDTH) for fault in page.evaluate(check)]
