"""INT8 and FP16 forms of a net, and the search for layers that have to stay float."""
