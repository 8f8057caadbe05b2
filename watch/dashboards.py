"""Grafana dashboards, made of `watch/boards.py` by Grafana's own SDK, which is of the environment for development alone.

One set serves all releases that a Prometheus knows: data source, namespace and release are chosen on the page. `make chart-watch`
writes them into the chart, whose template puts its `slo` in place of "$p95" and "$errors", the lines of panels.
"""

import json
from typing import cast

from grafana_foundation_sdk.builders import bargauge, common, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    CustomVariable,
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import GraphTresholdsStyleMode, LegendDisplayMode, LegendPlacement, VizOrientation

from watch.queries import OF_PODS, Board, Panel, Query, fill

SELECTOR = f'namespace="$namespace",pod=~"$release(-canary)?{OF_PODS}"'
WINDOWS = "1h,6h,1d,7d"
WIDTH, HEIGHT = 8, 8
"""Three panels a row of Grafana's 24 columns."""


def dashboard(board: Board) -> str:
    """A dashboard's JSON."""
    made = (
        Dashboard(board.title)
        .uid(f"visor-{board.name}")
        .description(board.about)
        .tags(["visor"])
        .time("now-6h", "now")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_chosen("namespace", "label_values(visor_build_info, namespace)"))
        .with_variable(
            _chosen("release", 'label_values(visor_build_info{namespace="$namespace"}, pod)').regex(
                f"/^(.+?)(?:-canary)?{OF_PODS.replace('(', '(?:')}$/"
            )
        )
    )
    if "$drift_window" in board.window:
        day = models.VariableOption(text="1d", value="1d", selected=True)
        made = made.with_variable(CustomVariable("drift_window").label("Window").values(WINDOWS).current(day))
    for title, panels in board.rows.items():
        made = made.with_row(Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel, board.window))
    return json.dumps(made.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _chosen(name: str, query: str) -> QueryVariable:
    """A variable whose values Prometheus has."""
    return (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(_source())
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _source() -> models.DataSourceRef:
    return models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def _panel(panel: Panel, window: str) -> timeseries.Panel | bargauge.Panel:
    # A name is no number before the chart has filled it in; the SDK passes it through.
    limit = cast("float", f"${panel.limit}") if isinstance(panel.limit, str) else panel.limit
    made: timeseries.Panel | bargauge.Panel
    if panel.kind == "bars":
        last = common.ReduceDataOptions().calcs(["lastNotNull"])
        made = bargauge.Panel().orientation(VizOrientation.HORIZONTAL).reduce_options(last)
    else:
        below = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM).display_mode(LegendDisplayMode.LIST)
        made = timeseries.Panel().fill_opacity(8).axis_soft_min(0).legend(below)
        if limit is not None:
            made = made.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    made = made.title(panel.title).description(panel.about).datasource(_source()).span(WIDTH).height(HEIGHT)
    made = made.unit(panel.queries[0].unit)
    if limit is not None:
        steps = [models.Threshold(color="green"), models.Threshold(value=limit, color="red")]
        made = made.thresholds(ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for place, query in enumerate(panel.queries):
        asked = Dataquery().expr(fill(query.text, selector=SELECTOR, window=window)).legend_format(legend(query))
        made = made.with_target((asked.instant() if panel.kind == "bars" else asked.range()).ref_id(chr(ord("A") + place)))
    return made


def legend(query: Query) -> str:
    """A series' name: the query's own, and the values of its labels, in the brackets that Grafana fills in."""
    return " ".join(filter(None, (query.name, *(f"{{{{{label}}}}}" for label in query.by)))) or "all"
