"""Figures: what a run computes, as pictures: the graph, cells, unrolled networks, tasks.

drawing.py is the door, `tg.draw`; unrolled.py, graph.py, cell.py and tasks.py are behind it.
"""
