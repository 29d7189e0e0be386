"""The report: what was found, planned and checked, as one HTML file and as pictures.

    inputs ──view──▶ ReportView ──html──▶ str        one self-contained file
    heat matrix ────────────────png──▶ bytes         a picture for an incident channel

| module      | what it is                                                            |
|-------------|-----------------------------------------------------------------------|
| `view`      | view models: everything the page shows, formatted and ordered         |
| `plan_view` | the tables and charts that come from the plan alone                   |
| `heat_view` | geometry of the heat pictures: key axis, time axis, cuts              |
| `charts`    | line, skyline and step charts as inline SVG                           |
| `palette`   | Cividis, and the colour of what was not measured                      |
| `words`     | numbers, times and untrusted text as people read them                 |
| `png`       | heat pictures, with and without axes                                  |
| `html`      | the page                                                              |

Functions return `str` or `bytes`; nothing here writes a file, asks a network or reads a clock.
The view models import neither Pillow nor Jinja2, so that widgets can show the same page.
"""
