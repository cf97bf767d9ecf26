"""Proof that our payments agree with the providers' own reports; what does not agree becomes a finding."""
