"""What the benchmarks write and how they read an image."""

import io
import json
import tarfile
from pathlib import Path

from tests.bench import page
from tests.bench.images import unpacked
from tests.bench.start import Start, medians


def archive(path: Path, *layers: dict[str, int]) -> Path:
    """An image of these layers: files with their sizes."""
    with tarfile.open(path, "w") as image:
        names = []
        for number, files in enumerate(layers):
            data = io.BytesIO()
            with tarfile.open(fileobj=data, mode="w") as layer:
                for name, size in files.items():
                    add(layer, name, b"x" * size)
            names.append(f"{number}/layer.tar")
            add(image, names[-1], data.getvalue())
        add(image, "manifest.json", json.dumps([{"Layers": names}]).encode())
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def test_an_image_is_as_large_as_what_its_containers_see(tmp_path: Path) -> None:
    assert unpacked(archive(tmp_path / "a", {"usr/a": 10, "usr/b": 20}, {"usr/a": 3})) == 23
    assert unpacked(archive(tmp_path / "b", {"usr/a": 10, "usr/b": 20}, {"usr/.wh.b": 0})) == 10
    assert unpacked(archive(tmp_path / "c", {"usr/x/a": 10, "b": 20}, {"usr/.wh.x": 0, "usr/c": 1})) == 21
    assert unpacked(archive(tmp_path / "d", {"usr/x/a": 10, "b": 20}, {"usr/.wh..wh..opq": 0, "usr/c": 1})) == 21


def test_each_figure_has_its_own_median() -> None:
    starts = [Start(1, 9, 50), Start(3, 7, 70), Start(2, 8, 60)]
    assert medians(starts) == Start(2, 8, 60)


STARTS = {"bare": [Start(0.01, 0.02, 9)], "ours": [Start(1.25, 1.5, 120)]}
HELD = [{"runs": 20, "mib": 160.4, "threads": 5, "objects": 10327}]


def test_the_section_has_every_figure_and_ratios_to_ours() -> None:
    text = page.section(STARTS, HELD, {"runner": 163_400_000}, "2 cores, Python 3.11.7")
    assert "| bare | 0.01 | 0.02 | 9 | 0.0 |\n| ours | 1.25 | 1.50 | 120 | 1.0 |" in text
    assert "| 20 | 160 | 5 | 10,327 |" in text
    assert "| runner | 163 |" in text
    assert "2 cores, Python 3.11.7" in text


def test_the_section_replaces_itself_and_nothing_else() -> None:
    first = page.put("", f"{page.BEGIN}\nold\n{page.END}")
    assert first == f"# Benchmarks\n\n{page.BEGIN}\nold\n{page.END}\n"
    beside = f"{first}\n## The cluster\n\nTheirs.\n"
    assert page.put(beside, f"{page.BEGIN}\nnew\n{page.END}") == beside.replace("old", "new")
    later = "# Benchmarks\n\n## The cluster\n\nTheirs.\n"
    assert page.put(later, f"{page.BEGIN}\nnew\n{page.END}") == f"{later}\n{page.BEGIN}\nnew\n{page.END}\n"
