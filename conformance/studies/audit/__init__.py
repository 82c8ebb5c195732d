"""The semantics audit: implementation x field of `Semantics`, each cell proven by a case that no other value explains.

`fields` says which values a field may have and where it matters; `probes` are the cases that tell values apart;
`fits` judges one answer under another value; `blame` says whose fault a contradiction is, `classes` tries numerics;
`cells` puts them together; `dimensions` are what is asked beyond `Semantics`; `documents`, `comparison` and `tables`
are what is made of a finished audit; `identifying` and `searching` search where nothing is promised, `ways` names
known ways to be wrong, `raising` says where an error is raised, and `checking` holds what was found to more cases.
"""
