"""A run over a cluster: blocks of cases × environments as tasks of Ray, and the run that they make together."""
