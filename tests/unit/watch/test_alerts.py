"""Burn rates as the SRE workbook has them; runbooks that answer each alert. Whether alerts fire: tests/charts/test_alerts.py."""

import re

import pytest

from tests.unit.test_docs import ROOT
from watch.alerts import ALERTS, BURNS, group

RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()


def hours(window: str) -> float:
    return float(window[:-1]) * {"m": 1 / 60, "h": 1, "d": 24}[window[-1]]


def test_a_burn_spends_its_part_of_a_month_s_budget_in_its_window() -> None:
    assert [burn.rate * hours(burn.long) / (30 * 24) for burn in BURNS] == pytest.approx([0.02, 0.05, 0.1])
    assert [hours(burn.long) / hours(burn.short) for burn in BURNS] == pytest.approx([12, 12, 12])


def test_no_alert_waits_for_more_than_all_of_the_requests() -> None:
    """A share above 1 never is, and an alert that asks for one never fires."""
    for alert in ALERTS:
        if alert.name == "VisorLatencyBudgetBurn":
            assert all(float(bound) < 1 for bound in re.findall(r" > ([\d.]+) and", alert.expression))


@pytest.mark.parametrize("name", sorted({alert.name for alert in ALERTS}))
def test_the_runbook_says_what_an_alert_means_where_to_look_and_what_to_do(name: str) -> None:
    [chapter] = re.findall(rf"^## {name}$(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert all(f"**{part}.**" in chapter for part in ("Means", "Look at", "Do"))


def test_the_runbooks_have_no_alert_that_is_gone() -> None:
    assert set(re.findall(r"^## (Visor\w+)$", RUNBOOKS, re.MULTILINE)) == {alert.name for alert in ALERTS}


def test_a_group_is_filled_in_and_leads_to_its_runbook() -> None:
    made = group("visor", ALERTS[:1], {"selector": 'job="visor"', "error_rate": "0.01", "min_requests": "7"}, "http://x/r.md")
    [rule] = made["rules"]
    assert "$" not in rule["expr"]
    assert rule["expr"].endswith(">= 7")
    assert rule["labels"] == {"severity": "critical", "window": "1h"}
    assert rule["annotations"]["runbook_url"] == "http://x/r.md#visorerrorbudgetburn"
