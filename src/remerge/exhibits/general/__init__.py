"""Exhibits that any benchmark may have."""
