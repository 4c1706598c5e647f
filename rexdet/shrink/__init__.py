"""LW-DNA's search: a network is widened, and shrunk in one shot to layer-wise widths (arXiv 2006.16242).

`rexdet.shrink.search.search` is the way in; `tools/search_lwdna.py` calls it.
"""
