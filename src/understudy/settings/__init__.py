"""Settings: what the user asks for. Values are checked where they are read; nothing here does work."""
