"""The report's style sheet: light or dark as the reader's system is, from a phone's width on."""

CSS = """
:root {
  color-scheme: light dark;
  --ground: #f7f7f5; --card: #fff; --ink: #1d1f23; --faint: #5a606a; --edge: #dcdfe3;
  --first: #1d5fc0; --second: #b3500b; --better: #17703a; --worse: #b3261e; --tint: #e9effa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #131519; --card: #1c1f25; --ink: #e6e8eb; --faint: #a3aab5; --edge: #363b44;
    --first: #86b5ff; --second: #f2a863; --better: #6fd08c; --worse: #ff938a; --tint: #24304a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
header, section {
  background: var(--card); border: 1px solid var(--edge); border-radius: .75rem;
  padding: 1rem 1.25rem; margin: 0 0 1rem;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; overflow-wrap: anywhere; }
p { margin: .35rem 0; max-width: 46rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .25rem .25rem 1rem; }
a { color: var(--first); }
small, .faint, figcaption { color: var(--faint); }
small { display: block; font-size: .8rem; line-height: 1.35; }
figcaption { font-size: .85rem; margin-top: .25rem; }
figure { margin: .75rem 0; }
img, svg { max-width: 100%; height: auto; }
img { border-radius: .35rem; vertical-align: top; }

.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0 .25rem;
}
.tiles div { border: 1px solid var(--edge); border-radius: .5rem; padding: .5rem .75rem; }
.tiles dt { color: var(--faint); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles dd small { white-space: normal; }

.row { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .5rem; }
.row b { font-weight: 600; font-size: .85rem; }
.row img { width: 100%; margin-bottom: .3rem; }

.side { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.side figure { flex: 0 1 auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .5rem 1.25rem; }
svg { width: 100%; }
svg text { fill: var(--faint); font-size: 12px; }
.grid { stroke: var(--edge); }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line0 { stroke: var(--first); } .dot0 { fill: var(--first); }
.line1 { stroke: var(--second); stroke-dasharray: 5 4; } .dot1 { fill: var(--second); }
.key { display: inline-block; width: 1.6rem; border-top: 2px solid var(--first); vertical-align: middle; }
.key.line1 { border-top: 2px dashed var(--second); }

.scrolls { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--edge); }
thead th { color: var(--faint); font-weight: 600; white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 9rem; }
.numbers td, .numbers thead th + th, .counts td, .counts thead th + th {
  text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
}
.numbers tbody th { min-width: 11rem; max-width: 22rem; }
.facts tbody th { min-width: 0; } .facts td { overflow-wrap: anywhere; }
.numbers th small { font-weight: 400; }
.counts tbody th, .settings tbody th, code, pre { font-family: ui-monospace, Consolas, "DejaVu Sans Mono", monospace; }
.settings td { min-width: 5rem; max-width: 22rem; overflow-wrap: anywhere; }
.settings td:nth-child(3) { white-space: nowrap; }
.settings td:nth-child(4) { min-width: 14rem; }
.settings tr:has(mark) th { color: var(--first); }
mark { background: var(--tint); color: inherit; border-radius: .25rem; padding: 0 .3rem; margin-left: -.3rem; }
.bar { display: inline-block; width: 4rem; height: .6rem; border: 1px solid var(--edge); border-radius: .3rem;
       overflow: hidden; margin-left: .6rem; text-align: left; }
.bar i { display: block; height: 100%; background: var(--first); }
.better { color: var(--better); } .worse { color: var(--worse); }
pre { background: var(--ground); border: 1px solid var(--edge); border-radius: .5rem; padding: .75rem; margin: .5rem 0;
      overflow-x: auto; font-size: .85rem; }
summary { cursor: pointer; }

@media (max-width: 34rem) {
  body { padding: .5rem; }
  header, section { padding: .75rem .9rem; }
  .tiles { grid-template-columns: 1fr; gap: .4rem; }
  .tiles div { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .75rem; align-items: baseline; }
  .tiles dd { font-size: 1.05rem; text-align: right; }
  .row { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .numbers tbody th { min-width: 7.5rem; max-width: 8.5rem; overflow-wrap: anywhere; }
}
"""
