"""The paper's names for the methods, by their names here (Tables 3, 6, 7)."""

HEADS = (
    "The symbols by which the paper tells its two divergences apart are lost here: KL is taken to be the "
    "first, as in its Tables 6 and 7. "
)
"""Of the paper's Tables 2 and 3."""

ROWS = {
    "Model averaging": "Model Averaging",
    "Multi-SLERP": "Multi-SLERP",
    "TIES": "TIES",
    "AdaMerging (TL)": "TL Adamerging",
    "AdaMerging (LL)": "LL Adamerging",
    "DivMerge KL (TL)": "TL KL (ours)",
    "DivMerge KL (LL)": "LL KL (ours)",
    "DivMerge JS (TL)": "TL JS (ours)",
    "DivMerge JS (LL)": "LL JS (ours)",
}
