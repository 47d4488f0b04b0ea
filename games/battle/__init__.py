"""MAgent2's battle: two packs of six on a small map."""
