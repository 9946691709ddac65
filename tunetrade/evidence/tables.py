"""Tables of a run folder; None where there is none, one line where one is damaged."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from forecasting.errors import UserError


def read_table(file: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    """The given columns of a Parquet file."""
    if not file.is_file():
        return None
    try:
        return pd.read_parquet(file, columns=list(columns))
    except (OSError, ValueError) as fault:
        raise UserError(f"{file}: cannot be read ({fault}); remove its run folder and run the study again") from fault
