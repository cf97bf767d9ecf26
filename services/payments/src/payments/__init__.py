"""Payment providers: what was really paid."""
