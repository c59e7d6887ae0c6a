import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tagger.evaluation.report import EvaluationReport, MapPoint
from tagger.reporting.evaluation import evaluation_page
from tagger.reporting.explorer import COLOURS, HEIGHT, LETTERS, MARGIN, RISKS, WIDTH, draw_explorer
from tagger.reporting.figures import COLOURS as IN_FIGURES
from tagger.reporting.html import FOLDER, render_html
from tagger.reporting.page import Figure, Figures

CHROMIUM = Path("/usr/bin/chromium")


def row(**changes: Any) -> MapPoint:
    given: dict[str, Any] = {"id": "1", "x": 0.5, "y": 0.5, "true": "apples"}
    given |= {"title": "t", "description": "", "probability": 0.9, "predicted": "apples"}
    return MapPoint(**given | changes)


Values = Callable[[list[MapPoint]], Any]


@pytest.fixture
def values(report: EvaluationReport) -> Values:
    return lambda rows: draw_explorer(report, rows).values


def test_dots_lie_within_the_margins(values: Values) -> None:
    corners = [row(x=x, y=y) for x in (0.0, 1.0) for y in (0.0, 1.0)]
    places = {(dot["x"], dot["y"]) for dot in values(corners)["dots"]}
    assert places == {(x, y) for x in (MARGIN, WIDTH - MARGIN) for y in (MARGIN, HEIGHT - MARGIN)}


def test_errors_lie_on_top_and_say_so(report: EvaluationReport, values: Values) -> None:
    rows = [row(id="w", predicted="pears"), row(id="r"), row(id="v", true="pears"), row(id="s")]
    drawn = values(rows)
    assert [one[0] for one in drawn["data"]["rows"]] == ["r", "s", "w", "v"]
    wrong = ["wrong" in dot["classes"].split() for dot in drawn["dots"]]
    assert wrong == [False, False, True, True]
    assert "4 rows as dots, 2 of them wrong." in draw_explorer(report, rows).text


def test_colours_are_of_the_true_tag_those_of_figures_and_begin_again(
    report: EvaluationReport,
) -> None:
    tags = [f"tag {number}" for number in range(COLOURS + 2)]
    many = report.model_copy(update={"tags": tags, "confusion": [[0] * len(tags)] * len(tags)})
    page: Any = draw_explorer(many, [row(true=tags[8], predicted=tags[3])]).values
    assert "t1" in page["dots"][0]["classes"].split()
    assert page["legend"][1] == ("t1", "tag 1")
    assert page["legend"][8] == ("t1", "tag 8")
    style = (FOLDER / "explorer.css").read_text()
    named = re.findall(r"^\.t\d { --tag: (.*); }", style, re.MULTILINE)
    assert [*named[:-1], "#000000"] == [*IN_FIGURES], "black is the ink, which a dark page changes"
    assert len(named) == COLOURS


@pytest.mark.parametrize("probability", [0.0, 0.34, 0.5, 0.7, 0.9, 0.97, 0.999, 1.0])
def test_the_legend_says_how_sure_a_dot_is(values: Values, probability: float) -> None:
    page = values([row(probability=probability)])
    legend = dict(page["sure"])
    (own,) = set(page["dots"][0]["classes"].split()) & set(legend)
    low, high = map(float, legend[own].split(" to "))
    assert low <= probability < high or probability == high == 1


def test_no_row_is_an_empty_map(values: Values) -> None:
    assert values([])["dots"] == []


def test_many_rows_have_short_descriptions(values: Values) -> None:
    long = row(description="word " * 60)
    (few,), many = (values([long] * count)["data"]["rows"] for count in (1, 1500))
    assert len(few[2]) > 200
    assert sum(len(one[2]) for one in many) <= LETTERS


@pytest.mark.parametrize("risk", [0.0, 0.003, 0.05, 0.051, 1.0])
def test_the_curve_stays_within_its_axes(report: EvaluationReport, risk: float) -> None:
    decision = report.decision.model_copy(update={"curve": [(0.5, 0.0), (1.0, risk)]})
    page: Any = draw_explorer(report.model_copy(update={"decision": decision}), []).values
    assert page["curve"]["most"] in RISKS
    assert risk <= page["curve"]["most"]
    assert all(10 <= float(y) <= 216 for y in re.findall(r",([\d.]+)", page["curve"]["line"]))


def test_intervals_of_slices_lie_within_their_pictures(values: Values) -> None:
    for line in values([])["slices"]["lines"]:
        low, value, high = line["ends"]
        assert 4 <= low <= value <= high <= 116


@pytest.fixture(scope="module")
def page(
    report: EvaluationReport, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Opens the report in a browser; it may neither ask anybody else nor fail."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("chromium is missing (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("report")
    figures = [Figure(folder / f"{name}.png", f"About {name}.") for name in ("confusion", "other")]
    for figure in figures:
        figure.path.write_bytes(b"\x89PNG")
    path = folder / "report.html"
    path.write_text(render_html(evaluation_page(report, Figures(figures))), encoding="utf-8")
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def opening(width: int = 1280, **options: Any) -> Any:
            context = browser.new_context(viewport={"width": width, "height": 800}, **options)
            context.set_default_timeout(10_000)
            context.on("request", lambda one: complaints.append(one.url))
            opened = context.new_page()
            opened.on("pageerror", lambda error: complaints.append(str(error)))
            opened.on("console", lambda message: complaints.append(message.text))
            opened.goto(path.as_uri())
            if options.get("java_script_enabled", True):
                opened.locator("#said").wait_for()  # the rows are unpacked
            return opened

        yield opening
        browser.close()
    assert {*complaints} == {path.as_uri()}


@pytest.mark.slow
def test_a_cell_of_the_matrix_shows_its_items(page: Callable[..., Any]) -> None:
    opened = page()
    said, found = opened.get_by_role("status"), opened.locator("#found tbody tr")
    cell = opened.get_by_role("button", name="7 rows of plums, taken for apples")
    cell.click()
    assert said.inner_text() == "7 of 100 rows: plums taken for apples."
    assert found.count() == 7
    assert {*found.locator("td:nth-child(2)").all_inner_texts()} == {"plums"}
    assert cell.get_attribute("aria-pressed") == "true"
    assert opened.locator("#map circle:not(.faint)").count() == 7
    opened.get_by_role("link", name="Read them").click()
    name = found.first.get_by_role("button")
    name.click()
    assert opened.locator("#map circle.marked title").text_content().startswith(name.inner_text())
    cell.click()
    assert said.inner_text() == "100 rows, none chosen"
    assert opened.locator("#found").is_hidden()


@pytest.mark.slow
def test_rows_are_filtered_by_keyboard(page: Callable[..., Any]) -> None:
    opened = page()
    said = opened.get_by_role("status")
    press = opened.keyboard.press
    opened.get_by_role("searchbox").focus()
    opened.keyboard.type("RIGHT row 12")
    assert said.inner_text() == "3 of 100 rows: with “right row 12”."
    assert opened.locator("#map circle:not(.faint)").count() == 3
    press("Tab")
    press("Space")
    assert said.inner_text() == "0 of 100 rows: errors only, with “right row 12”."
    press("Tab")
    press("Enter")
    assert said.inner_text() == "100 rows, none chosen"
    opened.get_by_role("button", name="terse title").focus()
    press("Enter")
    assert said.inner_text() == "38 of 100 rows: slice terse title."
    opened.get_by_role("slider", name="Share that is published").focus()
    press("Home")
    assert said.inner_text().startswith("0 of 100 rows: slice terse title, probability from")
    press("End")
    assert said.inner_text().startswith("38 of 100 rows: slice terse title, probability from")
    assert "23.0% of these wrong, 0 of 1,000" in opened.locator("#read").inner_text()
    opened.get_by_role("button", name="36 rows of plums, right").focus()
    press("Enter")
    assert said.inner_text().startswith("18 of 100 rows: plums, right, slice terse title")


@pytest.mark.slow
def test_more_rows_are_shown_when_asked_for(page: Callable[..., Any]) -> None:
    opened = page()
    opened.get_by_role("searchbox").fill("right")
    found = opened.locator("#found tbody tr")
    assert found.count() == 50
    opened.get_by_role("button", name="Show more").press("Enter")
    assert found.count() == 77
    assert found.nth(50).get_by_role("button").evaluate("one => one === document.activeElement")
    assert opened.get_by_role("button", name="Show more").is_hidden()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_the_page_is_accessible_and_fits(page: Callable[..., Any], width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened = page(width, color_scheme=scheme)
    opened.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    opened.get_by_role("button", name="7 rows of plums, taken for apples").click()
    results = axe.run(opened)
    assert not results.violations_count, results.generate_report()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_still_figures_stand_in_on_paper_and_without_scripts(page: Callable[..., Any]) -> None:
    opened = page()
    still, live = opened.locator("#plot-confusion"), opened.locator(".matrix")
    assert (still.is_visible(), live.is_visible()) == (False, True)
    assert opened.locator("#plot-other").is_visible()
    opened.emulate_media(media="print")
    assert (still.is_visible(), live.is_visible()) == (True, False)
    plain = page(java_script_enabled=False)
    assert plain.locator("#plot-confusion").is_visible()
    assert plain.locator("#map").is_visible()
    assert not any(one.is_visible() for one in plain.locator(".live").all())
