"""The canvas: pictures of arrays as SVG and HTML by our own code. It knows nothing of graphs.

pen.py draws, charts.py has what is drawn of arrays, page.py the HTML page around it.
"""
