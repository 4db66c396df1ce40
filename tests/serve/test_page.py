"""The page in a real browser: photos go in by every way there is, and labels, masks and boxes are read from it."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from serving import Site, picture, serving

pytest.importorskip("fastapi")

from npmnv2.hub import PACKAGED
from npmnv2.serve.app import create_app
from npmnv2.serve.catalog import Catalog
from npmnv2.serve.limits import Limits

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]

CAT = resources.files("npmnv2") / "data" / "cat.jpg"
DONE = "article:not(.busy)"
OPTIONS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser) -> Iterator[Any]:
    """Open a site's page; afterwards nothing was wrong in its console, and nothing was asked of anybody else."""
    complaints: list[str] = []
    contexts = []

    def open_(site: Site, **options: Any) -> Any:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write", "camera"], **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith((site.url, "blob:", "data:"))
                else complaints.append(request.url))  # fmt: skip
        page.goto(site.url)
        return page

    yield open_
    for context in contexts:
        context.close()
    # A status that is no success is noted by the browser itself.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


@pytest.fixture
def page(open_page, site) -> Any:
    opened = open_page(site)
    opened.wait_for_selector("#model option", state="attached")
    return opened


def labels(page: Any) -> list[str]:
    page.wait_for_selector(f"{DONE} .labels li")
    return page.locator("article:first-child .labels .label").all_inner_texts()


def until(page: Any, condition: str) -> None:
    """Wait for a condition in the page; Playwright's own waiting would break the page's policy by `eval`."""
    end = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def choose(page: Any, name: str, content: bytes) -> None:
    page.set_input_files("#files", [{"name": name, "mimeType": "image/png", "buffer": content}])


def hand_over(page: Any, event: str, name: str, content: bytes) -> None:
    """Drop or paste a file, as a user's hand does."""
    script = """([event, name, content]) => {
        const transfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
        const options = { bubbles: true, cancelable: true };
        document.querySelector("#drop").dispatchEvent(event === "paste"
            ? new ClipboardEvent(event, { ...options, clipboardData: transfer })
            : new DragEvent(event, { ...options, dataTransfer: transfer }));
    }"""
    page.evaluate(script, [event, name, base64.b64encode(content).decode()])


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_photo_is_handed_over_and_named(page, event) -> None:
    page.select_option("#model", PACKAGED)
    hand_over(page, event, "cat.jpg", CAT.read_bytes())
    assert labels(page)[:3] == ["Egyptian cat", "tiger cat", "tabby, tabby cat"]
    assert page.locator(".labels .share").first.inner_text() == "42.8%"
    bar, whole = (page.locator(f".labels .bar{part}").first.bounding_box()["width"] for part in (" span", ""))
    assert bar / whole == pytest.approx(0.428, abs=0.01)
    assert page.get_by_role("status").inner_text().startswith("cat.jpg: Egyptian cat 42.8%")
    assert page.locator("article img").evaluate("photo => [photo.alt, photo.naturalWidth]") == ["cat.jpg", 300]


def test_a_photo_from_the_camera(page) -> None:
    page.get_by_role("button", name="Camera").click()
    until(page, "document.querySelector('video').videoWidth > 0")
    page.get_by_role("button", name="Take photo").click()
    assert set(labels(page)) == {"cat", "dog", "owl"}
    assert page.locator("dialog").is_hidden()
    assert page.locator("video").evaluate("video => video.srcObject") is None


def test_several_photos_at_once(page) -> None:
    files = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": picture(70 + i, 65)} for i in range(6)]
    page.set_input_files("#files", files)
    until(page, f"document.querySelectorAll('{DONE} .labels').length === 6")
    assert page.locator("article h2").all_inner_texts() == [f"{i}.png" for i in range(6)]


def test_precision_is_switched_for_the_photos_that_are_there(page) -> None:
    page.select_option("#model", PACKAGED)
    page.get_by_role("button", name="Try the cat").click()
    labels(page)
    integer = said(page)
    page.select_option("#precision", "float")
    until(page, "document.querySelector('.took').textContent.includes('float')")
    assert (integer["precision"], said(page)["precision"]) == ("integer", "float")
    assert said(page)["results"] != integer["results"]


def said(page: Any) -> Any:
    return json.loads(page.locator("article pre").text_content())


def test_json_is_copied(page, site) -> None:
    choose(page, "photo.png", picture())
    labels(page)
    page.get_by_role("button", name="Copy JSON").click()
    page.get_by_role("button", name="Copied").wait_for()
    page.get_by_role("button", name="Copy JSON").wait_for()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied == site.send("/v1/predict", ("photo.png", picture())).json


def test_time_per_layer(page, catalog) -> None:
    choose(page, "photo.png", picture())
    labels(page)
    page.get_by_text("Time per layer").click()
    page.wait_for_selector(".layers table")
    rows = page.locator(".layers tbody th").all_inner_texts()
    model = catalog.offers["classifi"].model
    assert rows[0].startswith("Conv1")
    assert len(rows) == len(model.profile(picture()))


def test_a_mask_lies_over_its_photo(page) -> None:
    page.select_option("#model", "segmenta")
    choose(page, "photo.png", picture(120, 90))
    assert labels(page) == [region["label"] for region in said(page)["results"][0]["legend"]]
    page.wait_for_selector("canvas.mask")
    size = page.evaluate("[document.querySelector('.mask').width, document.querySelector('.mask').height]")
    assert size == [120, 90]
    colors = page.evaluate(
        """() => {
            const canvas = document.querySelector(".mask");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const counts = {};
            for (let at = 0; at < data.length; at += 4) {
                const color = "#" + [0, 1, 2].map((i) => data[at + i].toString(16).padStart(2, "0")).join("");
                if (data[at + 3]) counts[color] = (counts[color] ?? 0) + 1;
            }
            return counts;
        }"""
    )
    drawn = page.evaluate("chosenModel().colors")
    legend = [region for region in said(page)["results"][0]["legend"] if region["label"] != "background"]
    assert colors == {drawn[region["index"]]: region["pixels"] for region in legend}
    photo, mask = (page.locator(part).bounding_box() for part in (".photo", ".mask"))
    assert photo == pytest.approx(mask)


def test_the_slider_sets_the_opacity_of_a_mask(page) -> None:
    page.select_option("#model", "segmenta")
    choose(page, "photo.png", picture())
    labels(page)
    slider = page.get_by_label("Opacity")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowLeft")
    assert page.locator(".mask").evaluate("mask => mask.style.opacity") == "0.5"
    assert page.locator("output").inner_text() == "50%"


def test_boxes_lie_over_their_photo(open_page, shared_data) -> None:
    catalog, limits = Catalog([str(shared_data / "weights/detection/coco_ssdlite_mobilenet_v2_tfjs")]), Limits()
    photo = (shared_data / "photos/cats_and_dogs.jpg").read_bytes()
    with serving(create_app(catalog, limits), limits) as site:
        page = open_page(site)
        page.wait_for_selector("#model option", state="attached")
        hand_over(page, "drop", "cats_and_dogs.jpg", photo)
        found = labels(page)
        detections = said(page)["results"][0]["detections"]
        boxes = page.locator(".boxes rect").evaluate_all(
            "boxes => boxes.map(({ x, y, width, height }) => [x, y, width, height].map((side) => side.baseVal.value))"
        )
        names = page.locator(".names span").all_inner_texts()
        page.locator(".remove").click()
        hand_over(page, "drop", "plain.jpg", picture(64, 64, "JPEG"))
        page.get_by_text("Nothing found.").wait_for()
        page.close()
    assert names == [f"{detection['label']} {detection['score']:.1%}" for detection in detections]
    assert "cat" in found
    assert found == [detection["label"] for detection in detections]
    for (left, top, width, height), detection in zip(boxes, detections, strict=True):
        assert [left, top, left + width, top + height] == pytest.approx(detection["box"], abs=0.01)


def test_what_is_no_photo_is_said(page) -> None:
    choose(page, "broken.png", picture()[:200])
    page.wait_for_selector(f"{DONE} .message:not(:empty)")
    assert "cut short" in page.locator("article [role=alert]").inner_text()
    assert page.locator(".copy").is_hidden()
    assert page.locator(".layers").is_hidden()
    hand_over(page, "drop", "large.jpg", picture(1100, 1000, "JPEG"))
    until(page, "document.querySelector('article .message').textContent.includes('megapixels')")


def test_keys_reach_everything(page) -> None:
    choose(page, "photo.png", picture())
    labels(page)
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(10):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert seen == ["model", "precision", "files", "camera", "example", "Time per layer", "JSON", "Copy JSON", "Remove",
                    seen[-1]]  # fmt: skip
    page.locator(".remove").focus()
    page.keyboard.press("Enter")
    assert page.locator("article").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_everything_has_a_name_for_screen_readers(page) -> None:
    page.select_option("#model", "segmenta")
    choose(page, "photo.png", picture())
    labels(page)
    tree = page.locator("body").aria_snapshot()
    for line in (
        "heading \"npmnv2\" [level=1]", "combobox \"Model\"", "combobox \"Precision\"", "button \"Choose photos\"",
        "button \"Camera\"", "region \"Results\"", "img \"photo.png\"", "slider \"Opacity", "heading \"photo.png\"",
        "button \"Copy JSON\"", "button \"Remove\"",
    ):  # fmt: skip
        assert line in tree, f"{line} in\n{tree}"


def test_files_that_are_no_photos_are_said_where_everybody_sees_it(page) -> None:
    page.set_input_files("#files", [{"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"}])
    until(page, "document.querySelector('#notice').textContent !== ''")
    assert page.locator("#notice").bounding_box()["height"] > 10
    choose(page, "photo.png", picture())
    assert page.locator("#notice").inner_text() == ""


def test_small_photos_are_enlarged(page) -> None:
    choose(page, "photo.png", picture(80, 40))
    labels(page)
    assert page.locator(".photo").bounding_box()["width"] == 240


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "text"), [(320, "100%"), (390, "200%"), (1280, "100%")])
def test_it_fits_a_phone_and_the_night(open_page, site, scheme, width, text) -> None:
    page = open_page(site, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.wait_for_selector("#model option", state="attached")
    page.evaluate(f"document.documentElement.style.fontSize = '{text}'")
    choose(page, "a" * 80 + ".png", picture(700, 200))
    labels(page)
    page.get_by_text("Time per layer").click()
    page.wait_for_selector(".layers table")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 128) == (scheme == "dark")


def test_a_token_is_asked_for(open_page, catalog) -> None:
    limits = Limits()
    with serving(create_app(catalog, limits, token="secret"), limits) as site:
        page = open_page(site)
        page.get_by_label("asks for its token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That is not its token.").wait_for()
        page.get_by_label("asks for its token").fill("secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#model option", state="attached")
        choose(page, "photo.png", picture())
        assert len(labels(page)) == 3
        page.close()
