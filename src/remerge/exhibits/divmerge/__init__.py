"""DivMerge: a divergence-based model merging method for multi-tasking.

Figure 1 and Algorithm 1 are drawings, and Table 1 is CoLA's prompt, which is part of the configurations.
"""
