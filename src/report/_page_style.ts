/** The page's style: no colour means what words do not say as well; every text has a contrast of 4.5 or more. */
export const STYLE = `
:root{color-scheme:light dark;--paper:#fff;--panel:#f4f6f8;--ink:#1b2026;--soft:#4d5761;--line:#c9d0d7;--link:#0b57a4;
--good:#13652b;--bad:#a8201a;--warn:#7a4a00;--mark:#2f6fb3}
@media (prefers-color-scheme:dark){:root{--paper:#11161c;--panel:#1a2129;--ink:#e7ecf1;--soft:#aab4bf;--line:#3a4652;
--link:#8cc0ff;--good:#6fdc8c;--bad:#ff9d94;--warn:#f0c05a;--mark:#7db4ec}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:82rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:1.5rem}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.25rem;margin:2.25rem 0 .5rem}
h3{font-size:1.05rem;margin:1.25rem 0 .5rem}
p{margin:.4rem 0}
a{color:var(--link)}
a:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-999rem}
.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.5rem 1rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;margin:.75rem 0}
time{white-space:nowrap}
.soft,footer{color:var(--soft)}footer{margin-top:2rem;margin-bottom:1.5rem}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.warn{color:var(--warn);font-weight:600}
.tiles{display:flex;flex-wrap:wrap;gap:.75rem;padding:0;margin:1rem 0;list-style:none}
.tiles li{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;min-width:9rem}
.tiles strong{display:block;font-size:1.5rem;line-height:1.2}
.wide{overflow-x:auto;margin:.5rem 0 1rem}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
caption{text-align:left;color:var(--soft);padding:.25rem 0}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line);
overflow-wrap:normal}
td{overflow-wrap:anywhere;min-width:5rem}
th[scope=row]{font-weight:600}
.number{text-align:right;padding-right:1.5rem;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:.75rem}
figure{margin:0;background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
figcaption{font-size:.875rem}
svg{display:block;width:100%;height:auto;margin-top:.4rem}
.curve{fill:none;stroke:var(--mark);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.dot,.bar{fill:var(--mark)}
.cross{stroke:var(--bad);stroke-width:2}
.ground{stroke:var(--line);stroke-width:1}
.bars{width:8rem;height:.75rem;margin:.4rem 0 0}
@media print{:root{color-scheme:light;--paper:#fff;--panel:#fff;--ink:#000;--soft:#333;--line:#999;--link:#000;
--good:#13652b;--bad:#a8201a;--warn:#7a4a00;--mark:#2f6fb3}
nav,.skip{display:none}body{font-size:10pt}.wide{overflow:visible}figure,tr{break-inside:avoid}h2,h3{break-after:avoid}
thead{display:table-header-group}}
`;
