"""How the served model is asked in a test."""

import pandas as pd

CLASSES = "house, tree, moon"


def ask(model, *rows):
    return model.predict(pd.DataFrame([{"image": str(i), "classes": c} for i, c in rows]))
