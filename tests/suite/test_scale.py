"""docs/scale.md: its figures are those of bench/scale.py, worked out from what was measured."""

from __future__ import annotations

import pytest

from bench import scale


def test_the_page_and_the_picture_are_what_the_script_makes():
    of = scale.measured()
    assert scale.PAGE.read_text() == scale.page(scale.PAGE.read_text(), of)
    assert scale.PICTURE.read_text() == scale.picture(of)


@pytest.mark.parametrize(
    "measure", ["fleet_cold", "fleet_from_cache", "fleet_pull", "fleet_edit_second", "pull_image_bytes", "cache_bytes"]
)
def test_another_figure_is_another_page(measure):
    """The negative control: none of the figures is only decoration."""
    of = scale.measured()
    assert scale.page(scale.PAGE.read_text(), {**of, measure: 3 * of[measure]}) != scale.PAGE.read_text()


def test_the_sums_are_right_where_they_can_be_done_by_head():
    of = {
        "pull_image_bytes": 100e6, "pull_base_bytes": 40e6, "pull_code_bytes": 1e6, "cache_bytes": 500e6,
        "fleet_cold": 60.0, "fleet_from_cache": 6.0, "fleet_edit_second": 3.0,
    }  # fmt: skip
    cost = scale.work_out(of)
    assert cost["builds"] == 5000 and cost["fresh"] == 20
    assert cost["pulls_all"] == 1e12
    # 9,000 pulls of the code, 950 of image less base, 50 of the whole
    assert cost["pulls_kept"] == pytest.approx(9000 * 1e6 + 950 * 60e6 + 50 * 100e6)
    assert cost["minutes_cold"] == 5020 and cost["minutes_cache"] == 520 and cost["minutes_lasting"] == 270
    assert cost["cache_kept"] == 50e9
    assert scale.work_out(of, {"known": 0.0, "bases": 0.0})["pulls_kept"] == pytest.approx(cost["pulls_all"])


def test_a_page_without_a_place_for_a_table_is_an_error():
    with pytest.raises(AssertionError, match="no place for the table traffic"):
        scale.page(scale.PAGE.read_text().replace("<!-- traffic -->", ""), scale.measured())
