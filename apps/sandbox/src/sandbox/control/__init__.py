"""The control app: it acts as payers, banks and time, and plans faults. Providers add routes of their own."""
