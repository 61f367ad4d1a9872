"""The papers' tables and figures, and one page with all of them, from records alone."""
