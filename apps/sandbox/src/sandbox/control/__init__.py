"""The control plane below /__ctl: acts as payers, cabinets, chats and chains would, and plans what goes wrong."""
