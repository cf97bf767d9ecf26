"""The shop: the catalog as the public sees it, and orders paid from the wallet."""
