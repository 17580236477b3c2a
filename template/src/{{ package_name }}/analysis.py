"""Straight lines through Anscombe's quartet: four data sets whose statistics agree and whose shapes do not.

Source of the data: F. J. Anscombe, "Graphs in Statistical Analysis", The American Statistician 27 (1973), 17-21.
"""

from importlib.resources import files

import numpy as np
import pandas as pd
from scipy import stats


def load() -> pd.DataFrame:
    """Return the quartet: columns dataset (I to IV), x and y, 11 rows a data set, no units."""
    with files(__package__).joinpath("data/quartet.csv").open() as file:
        return pd.read_csv(file)


def fit(data: pd.DataFrame) -> pd.DataFrame:
    """Fit y = slope * x + intercept by least squares to each data set.

    Returns one row a data set: slope, intercept, correlation r, and the largest residual in units of
    the residuals' standard deviation, which tells the four apart.
    """
    rows = {}
    for name, points in data.groupby("dataset"):
        line = stats.linregress(points["x"], points["y"])
        residuals = points["y"] - (line.slope * points["x"] + line.intercept)
        rows[name] = {
            "slope": line.slope,
            "intercept": line.intercept,
            "r": line.rvalue,
            "largest residual": np.abs(residuals).max() / residuals.std(ddof=2),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("dataset")
