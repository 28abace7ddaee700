"""The canvas: pictures of arrays as SVG and HTML by our own code. It knows nothing of graphs."""
