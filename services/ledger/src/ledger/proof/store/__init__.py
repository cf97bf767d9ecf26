"""The statements of the proof. They share nothing with those of the core, which they check."""
