"""What operators do with differences: compare an account now, list findings and resolve them."""
