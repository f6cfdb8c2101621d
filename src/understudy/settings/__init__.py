"""Settings: what is asked for. Values that are checked where they are read; nothing here does work."""
