"""`make bench`: the operator on a real API server, beside the least that any operator of its kind must do."""
