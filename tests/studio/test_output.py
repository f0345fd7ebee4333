"""Tables that can be read and copied, whatever the terminal."""

import pytest
from rich.console import Console

from studio import output

RUN = "3f0c1d0e-7d2b-4a63-9a39-0f6a1f1b2c3d"
ROWS = [(RUN, "shapes", tuple(f"archive-{number}.zip" for number in range(9)), None)]
COLUMNS = ("run", "model", "archives", "ended")


def test_what_is_no_terminal_gets_each_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(COLUMNS, ROWS)
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if RUN in line and "shapes" in line and "archive-8.zip" in line]
    assert err == ""


@pytest.mark.parametrize(("width", "left_out"), [(200, ""), (60, "archives, ended"), (20, "model, archives, ended")])
def test_a_narrow_terminal_leaves_out_columns_but_never_cuts_the_first(
    width: int, left_out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "OUT", Console(width=width, force_terminal=True))
    output.print_table(COLUMNS, ROWS)
    out, err = capsys.readouterr()
    assert RUN in out
    assert "archive-8.zip" not in out
    assert err == (f"no room for: {left_out}; --json has them\n" if left_out else "")
