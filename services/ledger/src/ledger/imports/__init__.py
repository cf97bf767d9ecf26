"""Moving in: the wallet table of an older system becomes opening transfers, once."""
