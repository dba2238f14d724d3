from pathlib import Path

import pytest
from PIL import Image

from benchmarks.miss_sheet import main, read
from benchmarks.pictures import draw

HEADER = "path,label,probability,top,error"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, one of each digit."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(draw(seed=1, count=10)):
        (folder / picture.name(number)).write_bytes(picture.data)
    return folder


def results(folder: Path, to: Path, wrong: int, failed: int = 0) -> Path:
    """Write what a batch would, with some rows wrong and some failed."""
    lines = [HEADER]
    for number, path in enumerate(sorted(folder.iterdir())):
        if number < failed:
            lines.append(f"{path},,,,the image is empty")
        else:
            lines.append(f"{path},{(number + (number < failed + wrong)) % 10},0.93,,")
    to.write_text("\n".join(lines) + "\n")
    return to


@pytest.mark.parametrize(
    ("wrong", "failed", "status"), [(0, 0, 0), (1, 0, 0), (2, 0, 1), (0, 1, 0), (1, 1, 1)]
)
def test_exit_status_tells_whether_nine_in_ten_were_right(
    folder: Path, tmp_path: Path, wrong: int, failed: int, status: int
) -> None:
    assert main([str(results(folder, tmp_path / "results.csv", wrong, failed))]) == status


def test_totals_are_printed_by_scene(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(results(folder, tmp_path / "results.csv", wrong=1))])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].split() == ["all", "9", "of", "10,", "90.0%", "right"]
    assert sum(" 0 of" in line for line in printed) == 1


def test_the_sheet_shows_every_miss(folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "misses.png"
    main([str(results(folder, tmp_path / "results.csv", wrong=2, failed=1)), "--sheet", str(sheet)])
    image = Image.open(sheet).convert("RGB")
    cells = [image.crop((number * 112, 0, (number + 1) * 112, 112)) for number in range(3)]
    assert image.width == 3 * 112
    assert all(len(cell.getcolors(1 << 16) or []) > 2 for cell in cells)


def test_the_sheet_shows_a_picture_that_is_gone(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(f"{HEADER}\n{tmp_path}/0001_label-1_pen.jpg,,,,no such file\n")
    assert main([str(table), "--sheet", str(tmp_path / "misses.png")]) == 1
    with Image.open(tmp_path / "misses.png") as image:
        assert image.width == 112


@pytest.mark.parametrize(
    ("text", "message"), [(HEADER, "has no rows"), (f"{HEADER}\ncat.png,3,1,,", "expected a name such as")]
)
def test_results_that_can_not_be_scored_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "results.csv")
