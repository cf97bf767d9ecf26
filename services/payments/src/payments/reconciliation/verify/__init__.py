"""Compares our payments with other books; every difference becomes a finding. Comparing twice finds the same."""
