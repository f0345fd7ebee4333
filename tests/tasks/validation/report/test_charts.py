"""Heat maps and histograms: every label in its cell and its bar."""

import re

from tasks.validation.report.charts import CELLS, HeatMap, heat_maps, histograms
from tests.tasks.validation.report.test_html import dataset, table, traits


def test_heat_maps_put_labels_into_their_cells() -> None:
    rows = [
        ("l", 1, 0, 0.01, 0.99, 1.0, 0.09, 0),
        ("l", 2, 0, 0.01, 0.99, 1e-9, 5.0, 0),
        ("l", 3, 0, -1.0, 1.5, 0.11, 1.0, 0),
    ]

    def cells(chart: HeatMap) -> dict[str, tuple[int, int]]:
        return {path: (fewest, most) for path, fewest, most in chart.levels if path}

    centres, sizes = heat_maps(table(rows))

    last = CELLS - 1
    assert cells(centres) == {f"M0 {last}h1v1h-1z": (3, 3)}
    assert "holds 3 of 3 labels" in centres.peak
    third = CELLS // 3
    assert set(re.findall(r"M(\d+) (\d+)h", "".join(cells(sizes)))) == {
        (str(last), str(third)),
        ("0", "0"),
        (str(2 * third), "0"),
    }


def test_histograms_count_by_doubling() -> None:
    found = dataset({"a.png": b"", "a.png.txt": b"", "b.png": b"", "c.png": b"", "c.png.txt": b""})
    rows = [("a.png.txt", n, 0, 0.5, 0.5, share, 0.001, 0) for n, share in enumerate((0.003, 0.0035, 0.01, 0.5))]
    rows.append(("c.png.txt", 1, 0, 0.5, 0.5, 0.5, 0.5, 0))

    pixels, per_image, sizes = histograms(found, table(rows), {"a.png": traits(1280, 320), "b.png": traits(9, 8)}, 640)

    assert [bar for bar in pixels.bars if bar[1]] == [("under 2", 1), ("2 to 4", 1), ("4 to 8", 1), ("256 to 512", 1)]
    assert per_image.bars == (("none", 1), ("1", 1), ("2 to 3", 0), ("4 to 7", 1))
    assert sizes.bars == (("1280 x 320", 1), ("9 x 8", 1))
    assert histograms(found, table(), {}, 640) == []
