"""The semantics audit: implementation x field of `Semantics`, each cell proven by a case that no other value explains.

`fields` says which values a field may have and where it matters; `probes` are the cases that tell values apart;
`fits` judges one answer under another value; `cells` puts them together; `documents`, `comparison` and `tables` are
what is made of a finished audit; `identifying` searches where nothing is promised.
"""
