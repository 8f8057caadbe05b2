"""Which run is better: the comparison's rule, the candidates it looks at, and the search for hyperparameters."""
