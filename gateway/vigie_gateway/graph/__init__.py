"""The types and roots of the graph, one module a subject."""
