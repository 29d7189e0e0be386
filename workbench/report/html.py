"""The page: one HTML file that opens offline, asks nobody for anything and runs no script.

    ReportInputs ──report_view──▶ ReportView ──template──▶ str

The template escapes everything (Jinja2's autoescape); what goes in as markup is made here, by
the chart builder, which escapes by construction. A Content-Security-Policy in the page forbids
everything but its own styles and `data:` pictures, should any of that ever fail.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from workbench.report.charts import Chart, draw
from workbench.report.heat_view import HeatFigure, HeatPanel, levels_of
from workbench.report.palette import css_gradient
from workbench.report.view import ReportInputs, report_view

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

__all__ = ["ReportInputs", "report_html"]


def report_html(inputs: ReportInputs) -> str:
    """Return the report as one self-contained HTML document.

    Source: `workbench/report/template.html.j2` and `style.css` in the package.
    """
    return _template().render(view=report_view(inputs)).lstrip()


@cache
def _template() -> Template:
    # Jinja2 and Pillow cost time; whoever wants only the view models need not pay it.
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=DictLoader({"report": _resource("template.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = Markup(_resource("style.css"))  # noqa: S704 - our own file
    environment.globals["gradient"] = css_gradient()
    environment.filters["svg"] = _svg
    environment.filters["picture"] = _picture
    environment.filters["place"] = _place
    return environment.get_template("report")


def _svg(chart: Chart) -> Markup:
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(draw(chart))  # noqa: S704 - the builder escapes by construction


def _picture(panel: HeatPanel, figure: HeatFigure) -> str:
    """Return the panel's picture as a `data:` URI."""
    from workbench.report.png import bare_png, data_uri  # noqa: PLC0415

    return data_uri(bare_png(levels_of(panel.matrix, figure.scale, figure.top)))


def _place(percent: float) -> str:
    """Return a percentage for a style attribute, never in exponent form."""
    return f"{percent:.2f}%"


def _resource(name: str) -> str:
    return files("workbench.report").joinpath(name).read_text(encoding="utf-8")
