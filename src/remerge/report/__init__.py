"""The papers' tables, figures and one page of them, from records alone."""
