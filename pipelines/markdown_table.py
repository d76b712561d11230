"""Tables as Markdown for people."""

from collections.abc import Collection

import pandas as pd


def markdown_table(frame: pd.DataFrame, left: Collection[str] = ()) -> str:
    """Returns a table of texts as Markdown, with a newline at the end.

    Args:
        frame: cells as people read them, with their units; "" where there is none.
        left: columns that are aligned to the left beside the first one; all others to the right.
    """
    cells = frame.map(lambda text: str(text).replace("|", r"\|"))
    sides = [
        "left" if name in left or place == 0 else "right"
        for place, name in enumerate(frame.columns)
    ]
    return f"{cells.to_markdown(index=False, colalign=sides, disable_numparse=True)}\n"
