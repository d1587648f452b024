"""Did the data teach the spec, does it generalise, and what did each ingredient buy."""
