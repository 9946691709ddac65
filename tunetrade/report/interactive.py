"""What makes a page move: our script, the charts as JSON, and plotly, compressed and inside the page.

plotly.js is 4.8 MB; as gzip in base64 it is 2 MB and every browser since 2023 inflates it by itself. One page with
routes needs it once, where a page for each method would carry it twenty times.
"""

import gzip
import json
from base64 import b64encode
from functools import cache
from html import escape
from importlib import resources

from tunetrade.report.charts import Store


def script(store: Store) -> str:
    """The end of a page's body; without charts only tables and themes, and no plotly."""
    own = resources.files("tunetrade.report").joinpath("page.js").read_text(encoding="utf-8")
    data = as_json({"charts": store.charts, "arrays": store.arrays})
    library = f'<script type="text/plain" id="plotly">{library_text()}</script>\n' if store.charts else ""
    return f'<script type="application/json" id="data">{data}</script>\n{library}<script>\n{own}</script>'


def theme_button() -> str:
    """A button between light and dark; the script brings it to life."""
    return f'<button type="button" id="theme" hidden>{escape("Dark")}</button>'


def as_json(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def library_text() -> str:
    """plotly.min.js of the installed package, gzip in base64; the same bytes every time."""
    source = resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    return b64encode(gzip.compress(source, 9, mtime=0)).decode("ascii")
