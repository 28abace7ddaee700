"""Figures: what a run computes, as pictures: the graph, cells, unrolled networks, tasks."""
