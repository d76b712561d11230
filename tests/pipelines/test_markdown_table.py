"""Tables as Markdown."""

import pandas as pd

from pipelines.markdown_table import markdown_table


def test_cells_stay_as_they_are_written() -> None:
    frame = pd.DataFrame(
        {"network": ["a | b", "c"], "parameters": ["1,000", ""], "seed": ["1.50", "007"]}
    )
    assert markdown_table(frame, left=["seed"]) == (
        "| network   |   parameters | seed   |\n"
        "|:----------|-------------:|:-------|\n"
        "| a \\| b    |        1,000 | 1.50   |\n"
        "| c         |              | 007    |\n"
    )
